//! Whether a port that a list lacks is really gone, and whether a server is.

use multinic_core::cloud::PortProof;
use multinic_core::{NetworkId, PortId, ProjectId, ServerId};
use serde::Deserialize;

use crate::ReadError;
use crate::api::{at, with_query};
use crate::cloud::Cloud;

#[derive(Deserialize)]
struct One {
    port: Row,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    device_id: String,
}

impl Cloud {
    /// Asks for one port by its id. It counts as gone only if Neutron itself says so to a token of `project`, the one
    /// that saw it last, and can still show that token the port's network: 404 is also what Neutron answers to those
    /// who have lost the right to see. Whatever else happens proves nothing.
    pub async fn prove_port(
        &self,
        port: &PortId,
        network: Option<&NetworkId>,
        last_device: Option<&ServerId>,
        project: &ProjectId,
    ) -> PortProof {
        match self.ask_for_port(port, network, last_device, project).await {
            Ok(proof) => proof,
            Err(why) => PortProof::Unproven(why),
        }
    }

    /// Whether a server is gone. It is only if Nova itself answers 404 for it to a token of `project`, the one that saw it
    /// last: that is also what Nova answers about the servers of others.
    ///
    /// # Errors
    /// Where nobody could tell: why.
    pub async fn is_server_gone(&self, server: &ServerId, project: &ProjectId) -> Result<bool, String> {
        let session = self.session().await.map_err(|error| error.to_string())?;
        if session.project != *project {
            let ours = &session.project;
            return Err(format!(
                "the server was seen by project {project}, and the token is project {ours}'s"
            ));
        }
        let nova = self.nova().await.map_err(|error| error.to_string())?;
        let found = nova.get(server).await.map_err(|error| error.to_string())?;
        Ok(found.is_none())
    }

    async fn ask_for_port(
        &self,
        port: &PortId,
        network: Option<&NetworkId>,
        last_device: Option<&ServerId>,
        project: &ProjectId,
    ) -> Result<PortProof, String> {
        let interner = std::sync::Mutex::default();
        let neutron = self.neutron(&interner).await.map_err(|error| error.to_string())?;
        if neutron.project != *project {
            let ours = &neutron.project;
            return Err(format!("the port was seen by project {project}, and the token is project {ours}'s"));
        }
        let url = with_query(
            at(&neutron.base, ["ports", port.as_str()]),
            [("fields", "id"), ("fields", "device_id")],
        );
        let answer = match self.api().get("neutron.port", url).await {
            Ok(answer) => answer,
            Err(ReadError::Request(error)) if error.is_absence("PortNotFound") => {
                let network = network.ok_or("the port is not found, and its network is not known")?;
                return match neutron.network(network).await {
                    Ok(Some(_)) => Ok(PortProof::Gone),
                    Ok(None) => Err(format!("neither the port nor its network {network} is found")),
                    Err(error) => {
                        Err(format!("the port is not found, and its network can't be read: {error}"))
                    }
                };
            }
            Err(error) => return Err(error.to_string()),
        };
        let One { port: Row { id, device_id } } = answer.json("port").map_err(|error| error.to_string())?;
        if id != port.as_str() {
            return Err(format!("{}: answered with port {id}", answer.url));
        }
        match last_device {
            Some(last) if last.as_str() == device_id => Ok(PortProof::StillAttached),
            None if !device_id.is_empty() => {
                Err(format!("the port is attached to {device_id}, and it is not known to what it was before"))
            }
            _ => Ok(PortProof::Moved(device_id.into())),
        }
    }
}
