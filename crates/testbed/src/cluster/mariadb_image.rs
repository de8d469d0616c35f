//! The image of a MariaDB, for clusters that can pull none. Like the official one it has `mariadbd`, `mariadb-install-db`,
//! `mariadb-admin` and `mariadb-dump`, and its user 999 is `mysql`; it has nothing of that one's entry point.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::ClusterError;
use super::image::{Image, pack};
use crate::guest::error::file;
use crate::guest::{GuestError, Release, bootstrap, cache};

const PACKAGES: &str = "mariadb-server-core,mariadb-client";
/// Who the server runs as. Debian's package that would make this user also starts the server.
const USER: (&str, &str) = ("mysql:x:999:999:MariaDB:/var/lib/mysql:/usr/sbin/nologin\n", "mysql:x:999:\n");
/// What a container is given by its runtime, or never needs. A device cannot be made by every runtime.
const EMPTIED: [&str; 4] = ["dev", "var/cache", "var/lib/apt", "var/log"];

/// Packs it into an archive, under a name with tag. The first time, Debian's packages are fetched, which takes a minute; what
/// is in `~/.cache/multinic-testbed/images` then is packed again.
///
/// # Errors
/// Where it cannot be built or packed.
pub fn pack_mariadb(reference: &str, archive: &Path) -> Result<(), ClusterError> {
    let mut recipe = Sha256::new();
    [PACKAGES, USER.0, USER.1].iter().chain(&EMPTIED).for_each(|part| recipe.update(part));
    let recipe: String = recipe.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let root = cache::get(&cache::folder().join("images"), &format!("mariadb-{recipe}"), build)?;
    pack(&root, &Image::new(reference, &["/usr/sbin/mariadbd"]).user("999:999"), archive)
}

fn build(folder: &Path) -> Result<PathBuf, GuestError> {
    let root = folder.join("root");
    bootstrap(Release::Bookworm, PACKAGES, &root, None)?;
    for (name, line) in [("passwd", USER.0), ("group", USER.1)] {
        let path = root.join("etc").join(name);
        let opened = OpenOptions::new().append(true).open(&path);
        opened.and_then(|mut users| users.write_all(line.as_bytes())).map_err(file(&path))?;
    }
    for name in EMPTIED {
        let path = root.join(name);
        fs::remove_dir_all(&path).and_then(|()| fs::create_dir(&path)).map_err(file(&path))?;
    }
    Ok(root)
}
