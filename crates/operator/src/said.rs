//! What an API server answered.

use multinic_core::brief::short;

/// Its own words, without the name of our library's error around them.
pub fn answer(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => short(&status.message),
        other => short(other),
    }
}
