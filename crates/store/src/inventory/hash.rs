//! The hash by which the older programs told whether a node's configuration changed.

use sha2::{Digest, Sha256};

/// What Go's encoder writes for this compact JSON: it escapes `&`, `<`, `>` and the two line separators of Unicode,
/// which serde leaves alone. They occur within strings only, so the text as a whole can be gone through.
pub fn go_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 16);
    for letter in json.chars() {
        match letter {
            '&' => text.push_str("\\u0026"),
            '<' => text.push_str("\\u003c"),
            '>' => text.push_str("\\u003e"),
            '\u{2028}' => text.push_str("\\u2028"),
            '\u{2029}' => text.push_str("\\u2029"),
            other => text.push(other),
        }
    }
    text
}

/// `lastConfigHash`: the SHA-256 of one node's compact JSON as Go would write it, in lower-case hexadecimal.
///
/// It tells readers whether a configuration is another one, and the store whether to write. It never decides whether
/// something is sent: that is for a comparison with what is there.
pub fn node_hash(json: &str) -> String {
    Sha256::digest(go_json(json)).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VECTOR: &str = r#"{"nodeName":"worker-1","instanceId":"11111111-2222-3333-4444-555555555555","interfaces":[{"portId":"port-a","name":"multinic0","macAddress":"fa:16:3e:00:00:01","address":"10.0.0.10","cidr":"10.0.0.0/24","mtu":1450,"deviceId":"11111111-2222-3333-4444-555555555555","networkId":"net-a","subnetId":"sub-a"},{"id":1,"portId":"port-b","name":"multinic1","macAddress":"fa:16:3e:00:00:02","address":"10.0.1.10","cidr":"10.0.1.0/24","deviceId":"11111111-2222-3333-4444-555555555555","networkId":"net-b","subnetId":"sub-b"}]}"#;

    #[test]
    fn the_hash_is_the_one_that_the_older_programs_stored() {
        assert_eq!(node_hash(VECTOR), "7c311e96c1e8fda64742bac67ec4a81aa70812d628b1e44679218c1b28158786");
    }

    #[test]
    fn what_go_escapes_is_escaped() {
        let json = serde_json::to_string("a&b<c>d\u{2028}\u{2029}\"\\\u{8}\u{c}\n\r\t\u{1}\u{7f}é/").unwrap();
        assert_eq!(
            go_json(&json),
            "\"a\\u0026b\\u003cc\\u003ed\\u2028\\u2029\\\"\\\\\\b\\f\\n\\r\\t\\u0001\u{7f}é/\""
        );
    }
}
