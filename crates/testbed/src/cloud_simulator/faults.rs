//! What can be made to go wrong.

use std::time::Duration;

/// One thing that goes wrong with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This answer, whatever was asked.
    Answer {
        /// The HTTP status.
        status: u16,
        /// Headers beside `Content-Type: application/json`, which they can replace.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// A proxy's page with this status, 200 included.
    Html(u16),
    /// 429 with this `Retry-After`.
    TooMany {
        /// Seconds or a date.
        retry_after: String,
    },
    /// No answer at all.
    Hang,
    /// The right answer, late.
    Delay(Duration),
    /// The connection is reset before an answer.
    Reset,
    /// The connection ends in the middle of the right answer.
    CutOff,
    /// Half of the right answer, with a length that says it is whole.
    Truncated,
    /// A success whose list is empty.
    Empty,
    /// A success whose list lacks this many rows at its end.
    Lacking(usize),
    /// The query is lost: everything that the token may see comes back.
    DropQuery,
    /// The page comes without the link to the next.
    NoNextLink,
    /// The first page comes again, with its link.
    RepeatPage,
    /// All tokens end before the request is looked at.
    ExpireTokens,
}

/// Faults in waiting.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Waiting>);

#[derive(Debug)]
struct Waiting {
    prefix: String,
    fault: Fault,
    times: usize,
}

/// How the list of an answer is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Twist {
    pub empty: bool,
    pub lacking: usize,
    pub no_next_link: bool,
}

impl Faults {
    pub fn add(&mut self, prefix: &str, times: usize, fault: Fault) {
        self.0.push(Waiting { prefix: prefix.to_owned(), fault, times });
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The first fault for this path, which is used up by it.
    pub fn next(&mut self, path: &str) -> Option<Fault> {
        let at = self.0.iter().position(|waiting| path.starts_with(&waiting.prefix))?;
        let waiting = self.0.get_mut(at)?;
        let fault = waiting.fault.clone();
        waiting.times = waiting.times.saturating_sub(1);
        if waiting.times == 0 {
            self.0.remove(at);
        }
        Some(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_used_up_in_order_and_by_path() {
        let mut faults = Faults::default();
        faults.add("/v2.0/ports", 2, Fault::Hang);
        faults.add("/v2.0", 1, Fault::Reset);
        assert_eq!(faults.next("/v2.1/servers"), None);
        assert_eq!(faults.next("/v2.0/ports/x"), Some(Fault::Hang));
        assert_eq!(faults.next("/v2.0/subnets"), Some(Fault::Reset));
        assert_eq!(faults.next("/v2.0/subnets"), None);
        assert_eq!(faults.next("/v2.0/ports"), Some(Fault::Hang));
        assert_eq!(faults.next("/v2.0/ports"), None);
    }
}
