//! Every setting of the inventory, each once: a flag, its environment variable, its default.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap::builder::BoolishValueParser;
use tokio::net::TcpListener;

/// The older programs' port.
const PORT: u16 = 18081;

/// Whether and where the inventory is served, to whom, and where it is kept.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inventory")]
pub struct InventoryArgs {
    /// Keep and serve the inventory.
    #[arg(long, env = "INVENTORY_ENABLED", default_value_t = true, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub inventory_enabled: bool,
    /// Where it listens, as HOST:PORT or :PORT. [default: :18081 with a token or token review, else 127.0.0.1:18081]
    #[arg(long, env = "INVENTORY_ADDR")]
    pub inventory_addr: Option<ListenAddress>,
    /// SQLite file, for a controller without MariaDB; an older program's inventory.json in its folder is taken in.
    #[arg(long, env = "INVENTORY_DB_PATH", default_value = "/var/lib/multinic-operator/inventory.db")]
    pub inventory_db_path: PathBuf,
    /// File with the bearer tokens that readers show, one in each line; read anew when it changes.
    #[arg(long, env = "INVENTORY_TOKEN_FILE")]
    pub inventory_token_file: Option<PathBuf>,
    /// Let Kubernetes judge readers' tokens (TokenReview, SubjectAccessReview on the path).
    #[arg(long, env = "INVENTORY_TOKEN_REVIEW", default_value_t = false, action = clap::ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub inventory_token_review: bool,
    /// Audiences of which a token must have one, by commas. [default: the API server's own]
    #[arg(long, env = "INVENTORY_TOKEN_AUDIENCES", value_delimiter = ',')]
    pub inventory_token_audiences: Vec<String>,
    /// PEM file of the server's certificate and its chain; read anew when it changes.
    #[arg(long, env = "INVENTORY_TLS_CERT_FILE", requires = "inventory_tls_key_file")]
    pub inventory_tls_cert_file: Option<PathBuf>,
    /// PEM file of the certificate's private key.
    #[arg(long, env = "INVENTORY_TLS_KEY_FILE", requires = "inventory_tls_cert_file")]
    pub inventory_tls_key_file: Option<PathBuf>,
}

impl InventoryArgs {
    /// Whether readers must show who they are.
    pub fn asks_for_tokens(&self) -> bool {
        self.inventory_token_file.is_some() || self.inventory_token_review
    }

    /// Where it listens. Without tokens that is this machine alone, unless an address was named.
    pub fn address(&self) -> ListenAddress {
        self.inventory_addr.clone().unwrap_or_else(|| {
            let host = if self.asks_for_tokens() { "" } else { "127.0.0.1" };
            ListenAddress { host: host.to_owned(), port: PORT }
        })
    }

    /// The SQLite file: a path of an older program's names the JSON file that it kept, and the database is beside it.
    pub fn database_path(&self) -> PathBuf {
        if self.names_json() {
            self.inventory_db_path.with_extension("db")
        } else {
            self.inventory_db_path.clone()
        }
    }

    /// Where an older program's file would be.
    pub fn old_path(&self) -> PathBuf {
        if self.names_json() {
            self.inventory_db_path.clone()
        } else {
            self.inventory_db_path.with_file_name("inventory.json")
        }
    }

    fn names_json(&self) -> bool {
        self.inventory_db_path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
    }
}

/// `HOST:PORT`, or `:PORT` for every address of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not of the form HOST:PORT, [IPv6]:PORT or :PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if inner.is_none() && host.contains(':') {
            return Err(wrong());
        }
        Ok(Self { host: inner.unwrap_or(host).to_owned(), port })
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl ListenAddress {
    /// Takes the port.
    pub async fn bind(&self) -> io::Result<TcpListener> {
        if !self.host.is_empty() {
            return TcpListener::bind((self.host.as_str(), self.port)).await;
        }
        // Every address of both families, as Go does it; a machine without IPv6 has no such socket.
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, self.port)).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, self.port)).await,
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        let ip: Option<IpAddr> = self.host.parse().ok();
        ip.map_or(self.host == "localhost", |ip| ip.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(addr: Option<&str>, db: &str, token: bool) -> InventoryArgs {
        InventoryArgs {
            inventory_enabled: true,
            inventory_addr: addr.map(|text| text.parse().unwrap()),
            inventory_db_path: db.into(),
            inventory_token_file: token.then(|| "/token".into()),
            inventory_token_review: false,
            inventory_token_audiences: Vec::new(),
            inventory_tls_cert_file: None,
            inventory_tls_key_file: None,
        }
    }

    #[test]
    fn without_tokens_only_a_named_address_is_open_to_others() {
        assert_eq!(args(None, "x", false).address().to_string(), "127.0.0.1:18081");
        assert_eq!(args(None, "x", true).address().to_string(), ":18081");
        assert!(!args(Some(":18081"), "x", false).address().is_loopback());
        assert!(args(Some("[::1]:1"), "x", false).address().is_loopback());
        assert!(args(Some("localhost:1"), "x", false).address().is_loopback());
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        for text in ["18081", "host", "::1:18081", "host:", ":99999"] {
            assert!(text.parse::<ListenAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_older_programs_path_names_the_file_to_take_in() {
        let old = args(None, "/data/inventory.json", false);
        assert_eq!(old.database_path(), PathBuf::from("/data/inventory.db"));
        assert_eq!(old.old_path(), PathBuf::from("/data/inventory.json"));
        let new = args(None, "/data/state.db", false);
        assert_eq!(new.database_path(), PathBuf::from("/data/state.db"));
        assert_eq!(new.old_path(), PathBuf::from("/data/inventory.json"));
    }
}
