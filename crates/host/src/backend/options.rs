//! Options of an interface in files: what they say, and the one line that says it to us.
//!
//! Each backend has its own words for routes and rules. So that these need not be understood again, one line at the head of
//! a NIC's main file says what they were made from; that they still are as they were made is seen by making them again.

use std::fmt::Write;

use multinic_core::NicOptions;
use multinic_core::node::NicTarget;

use super::HEADER;

/// What the line begins with: a comment wherever it is.
const MARK: &str = "# options: ";

/// The first lines of a NIC's main file.
pub fn head(options: &NicOptions) -> String {
    let mut text = HEADER.to_owned();
    if *options != NicOptions::default() {
        // Numbers, words and addresses are JSON whatever they are, and JSON of this form has one line.
        let _ = writeln!(text, "{MARK}{}", serde_json::to_string(options).unwrap_or_default());
    }
    text
}

/// The options that a file names.
pub fn read(text: &str) -> Option<NicOptions> {
    let line = text.lines().find_map(|line| line.strip_prefix(MARK))?;
    serde_json::from_str(line).ok()
}

/// sysctl.d(5). udev has it read for each link that appears, under the name that the link is given.
pub fn sysctl(target: &NicTarget) -> String {
    let mut text = HEADER.to_owned();
    for (setting, value) in target.options.settings() {
        // With a slash first, the dot in the name of a VLAN is one.
        let _ = match target.vlan() {
            Some(vlan) => writeln!(text, "net/ipv4/conf/{vlan}/{} = {value}", setting.key()),
            None => writeln!(text, "net.ipv4.conf.{}.{} = {value}", target.name, setting.key()),
        };
    }
    text
}
