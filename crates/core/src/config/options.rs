//! What a configuration says of its NICs beyond their addresses.

use serde::{Deserialize, Serialize};

use super::{FieldError, SomeOptions, Spec};
use crate::{Interface, InterfaceOptions, PortId, SubnetId};

/// Which NIC gets which options.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionRules {
    /// Those of some of them; the first that means a NIC counts.
    pub some: Vec<OptionRule>,
    /// Those of all.
    pub all: InterfaceOptions,
}

/// Options of the NICs of a port, or of a subnet; of both where both are named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionRule {
    /// The subnet of the NIC's first address.
    pub subnet: Option<SubnetId>,
    /// The NIC's port.
    pub port: Option<PortId>,
    /// The options, with those of all for what they leave open.
    pub options: InterfaceOptions,
}

impl OptionRules {
    /// Reads them from a spec.
    ///
    /// # Errors
    /// Everything that is wrong, by field.
    pub fn parse(spec: &Spec) -> Result<Self, Vec<FieldError>> {
        let all = spec.options.clone();
        let mut errors = Vec::new();
        let mut check = |place: &str, options: &InterfaceOptions| {
            if let Err(error) = options.check() {
                errors.push(FieldError { field: format!("{place}.{}", error.field), problem: error.problem });
            }
        };
        check("spec", &all);
        let mut some = Vec::new();
        for (at, SomeOptions { subnet_id, port_id, options }) in spec.interface_options.iter().enumerate() {
            let place = format!("spec.interfaceOptions[{at}]");
            let given = |text: &Option<String>| {
                text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
            };
            let rule = OptionRule {
                subnet: given(subnet_id).map(SubnetId::from),
                port: given(port_id).map(PortId::from),
                options: options.or(&all),
            };
            check(&place, &rule.options);
            some.push((place, rule));
        }
        for (place, rule) in &some {
            if rule.subnet.is_none() && rule.port.is_none() {
                let problem = "names no NIC: give subnetID or portID; what is for all is spec.options";
                errors.push(FieldError { field: place.clone(), problem: problem.to_owned() });
            }
        }
        let some = some.into_iter().map(|(_, rule)| rule).collect();
        if errors.is_empty() { Ok(Self { some, all }) } else { Err(errors) }
    }

    /// Those of a NIC.
    pub fn of(&self, nic: &Interface) -> &InterfaceOptions {
        let means = |rule: &&OptionRule| {
            rule.subnet.as_ref().is_none_or(|subnet| *subnet == nic.subnet)
                && rule.port.as_ref().is_none_or(|port| *port == nic.port)
        };
        self.some.iter().find(means).map_or(&self.all, |rule| &rule.options)
    }
}
