//! How many ids fit into one request.

use crate::api::LONGEST_QUERY;

/// The most ids in one request. More bring nothing: Neutron's time grows with the rows.
const MOST: usize = 30;

/// `&limit=1000&marker=` and an id, which paging adds.
const PAGING: usize = 64;

/// Splits ids so that each part fits into the longest query beside `fixed`.
pub(super) fn chunks<'a, T: AsRef<str>>(key: &str, ids: &'a [T], fixed: &[(&str, &str)]) -> Vec<&'a [T]> {
    let room = LONGEST_QUERY.saturating_sub(PAGING + length(fixed.iter().copied()));
    let mut parts = Vec::new();
    let mut rest = ids;
    while !rest.is_empty() {
        let mut used = 0;
        let fitting = rest
            .iter()
            .take(MOST)
            .take_while(|id| {
                used += length([(key, id.as_ref())]);
                used <= room
            })
            .count();
        // An id that is too long by itself is refused where the request is made.
        let (part, after) = rest.split_at(fitting.max(1));
        parts.push(part);
        rest = after;
    }
    parts
}

fn length<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> usize {
    // One more for the `&` in front.
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_has_too_many_ids_or_too_long_a_query() {
        let ids: Vec<String> = (0..95).map(|n| format!("00000000-0000-0000-0000-{n:012}")).collect();
        let field = ["id"; 20].map(|field| ("fields", field));
        for fixed in [&[][..], &field[..]] {
            let parts = chunks("device_id", &ids, fixed);
            assert_eq!(parts.len(), 4);
            assert_eq!(parts.concat(), ids);
            for part in parts {
                let pairs = part.iter().map(|id| ("device_id", id.as_str()));
                assert!(part.len() <= MOST);
                assert!(length(pairs.chain(fixed.iter().copied())) + PAGING <= LONGEST_QUERY);
            }
        }
        assert_eq!(chunks("id", &["x".repeat(5000)], &[]).len(), 1);
    }
}
