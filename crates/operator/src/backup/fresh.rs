//! Whether the newest backup is as new as its schedule says. Pure.

use croner::Cron;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use multinic_api::operator::{BackupSpec, LastBackup};

use super::place::{CONTAINER, Place};
use super::report::Report;
use crate::desired::given;

/// How long a backup may take, and its Job may wait for a node: half an hour each.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

/// What pods of backups said in their end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    /// The newest backup.
    pub made: Option<LastBackup>,
    /// The newest failure: when, and what it was.
    pub failed: Option<(Timestamp, String)>,
}

/// Reads the ends of pods that make backups in this place.
pub fn ends(pods: &[Pod], place: &Place) -> Ends {
    let mut ends = Ends::default();
    let mut made_at = Timestamp::UNIX_EPOCH;
    for pod in pods.iter().filter(|pod| place.is_of(pod)) {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        let ended = statuses.filter(|status| status.name == CONTAINER);
        let ended = ended.filter_map(|status| status.state.as_ref()?.terminated.as_ref());
        for end in ended {
            let text = end.message.as_deref().unwrap_or_default();
            let at = end.finished_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
            let error = match serde_json::from_str(text) {
                Ok(Report::BackedUp { time, file, size, rows }) => {
                    let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
                    let made = place.note(LastBackup {
                        time: time.to_string(),
                        file,
                        size_bytes: number(size),
                        rows: number(rows),
                        verified: true,
                        claim_name: None,
                        location: None,
                    });
                    made_at = made_at.max(at);
                    if ends.made.as_ref().is_none_or(|other| parsed(&other.time) < Some(time)) {
                        ends.made = Some(made);
                    }
                    continue;
                }
                Ok(Report::Failed { error }) => error,
                // That one tells what comes of it.
                Ok(Report::Busy) => continue,
                Ok(Report::Restored { .. } | Report::NotEmpty { .. }) | Err(_) => {
                    let reason = end.reason.as_deref().unwrap_or("it ended");
                    format!("{reason}, exit code {}: {text}", end.exit_code)
                }
            };
            if ends.failed.as_ref().is_none_or(|(other, _)| *other < at) {
                ends.failed = Some((at, error));
            }
        }
    }
    // Whenever the good one was begun.
    ends.failed = ends.failed.filter(|(at, _)| ends.made.is_none() || *at >= made_at);
    ends
}

fn parsed(time: &str) -> Option<Timestamp> {
    time.parse().ok()
}

/// The newest one in a place, of what was known before and what a pod says.
pub fn newest(known: Option<LastBackup>, made: Option<LastBackup>, place: &Place) -> Option<LastBackup> {
    let known = known.filter(|known| place.has(known));
    [known, made].into_iter().flatten().max_by_key(|backup| parsed(&backup.time))
}

/// The condition `BackupFresh`: whether it is true, its reason and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// Whether it is.
    pub is_fresh: bool,
    /// In a word.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Judges. `since` is the time from which on the schedule holds.
pub fn freshness(
    spec: &BackupSpec,
    last: Option<&LastBackup>,
    failed: Option<&(Timestamp, String)>,
    since: Timestamp,
    now: Timestamp,
) -> Freshness {
    let not = |reason, message| Freshness { is_fresh: false, reason, message };
    let last_time = last.and_then(|last| parsed(&last.time));
    if let Some((at, why)) = failed.filter(|(at, _)| last_time.is_none_or(|time| *at > time)) {
        return not("BackupFailed", format!("the backup that ended at {at} failed: {why}"));
    }
    let due = next(spec, last_time.map_or(since, |time| time.max(since)));
    let is_overdue = due.is_none_or(|due| now.duration_since(due) > PATIENCE);
    match (last, due) {
        (Some(last), _) if !is_overdue => Freshness {
            is_fresh: true,
            reason: "Fresh",
            message: format!("{}: {} rows, {} bytes, verified", last.file, last.rows, last.size_bytes),
        },
        (None, Some(due)) if !is_overdue => not("NoBackupYet", format!("the first one is due at {due}")),
        (Some(last), Some(due)) => {
            not("Overdue", format!("the last one is of {}; another was due at {due}", last.time))
        }
        (None, Some(due)) => not("Overdue", format!("there is none; the first one was due at {due}")),
        (_, None) => not("Overdue", "the schedule names no time".to_owned()),
    }
}

/// The first time of the schedule after this one.
fn next(spec: &BackupSpec, after: Timestamp) -> Option<Timestamp> {
    let zone = given(spec.timezone.as_ref()).map_or(Ok(TimeZone::UTC), TimeZone::get).ok()?;
    let cron: Cron = spec.schedule.trim().parse().ok()?;
    Some(cron.find_next_occurrence(&after.to_zoned(zone), false).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

    use serde_json::json;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn daily() -> BackupSpec {
        BackupSpec {
            schedule: "0 3 * * *".to_owned(),
            timezone: Some("Asia/Seoul".to_owned()),
            ..BackupSpec::default()
        }
    }

    fn backup(at: &str) -> LastBackup {
        LastBackup {
            time: at.to_owned(),
            file: "x.sql".to_owned(),
            size_bytes: 1,
            rows: 2,
            verified: true,
            claim_name: None,
            location: None,
        }
    }

    fn mine() -> Place {
        Place::Claim("mine".to_owned())
    }

    #[test]
    fn a_backup_is_fresh_until_the_next_one_should_be_there() {
        // 03:00 in Seoul is 18:00 UTC.
        let since = time("2026-11-01T00:00:00Z");
        let judge = |last: Option<&str>, failed: Option<&str>, now: &str| {
            let last = last.map(backup);
            let failed = failed.map(|at| (time(at), "no space".to_owned()));
            freshness(&daily(), last.as_ref(), failed.as_ref(), since, time(now)).reason
        };
        let last = Some("2026-11-20T18:00:05Z");
        assert_eq!(judge(last, None, "2026-11-21T18:30:00Z"), "Fresh");
        assert_eq!(judge(last, None, "2026-11-21T19:00:01Z"), "Overdue");
        assert_eq!(judge(last, Some("2026-11-20T17:00:00Z"), "2026-11-21T18:30:00Z"), "Fresh");
        assert_eq!(judge(last, Some("2026-11-20T18:10:00Z"), "2026-11-20T18:30:00Z"), "BackupFailed");
        assert_eq!(judge(None, None, "2026-11-01T01:00:00Z"), "NoBackupYet");
        assert_eq!(judge(None, None, "2026-11-01T19:00:01Z"), "Overdue");
        // A schedule that is newer than the backup counts from where it began.
        assert_eq!(judge(Some("2026-10-01T00:00:00Z"), None, "2026-11-01T18:30:00Z"), "Fresh");
    }

    #[test]
    fn what_is_on_another_claim_is_not_the_last_backup_of_this_one() {
        let on = |claim: Option<&str>| {
            let backup = backup("2026-11-20T00:00:00Z");
            Some(LastBackup { claim_name: claim.map(str::to_owned), ..backup })
        };
        let made = Some(backup("2026-11-01T00:00:00Z"));
        assert_eq!(newest(on(Some("mine")), made.clone(), &mine()), on(Some("mine")));
        assert_eq!(newest(on(None), None, &mine()), on(None));
        assert_eq!(newest(on(Some("another")), made.clone(), &mine()), made);
        let bucket = Place::Bucket { location: "https://s3.example/b/".to_owned(), arguments: Vec::new() };
        let there = Some(bucket.note(backup("2026-11-20T00:00:00Z")));
        assert_eq!(newest(there.clone(), None, &mine()), None);
        assert_eq!(newest(there.clone(), None, &bucket), there);
        assert_eq!(newest(on(None), None, &bucket), None);
    }

    #[test]
    fn the_ends_of_pods_are_read_whatever_they_say() {
        let pod = |finished: &str, code: i32, message: &str| -> Pod {
            let terminated =
                json!({"exitCode": code, "reason": "Error", "message": message, "finishedAt": finished});
            let status = json!({"name": "backup", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": terminated}});
            let volume = json!({"name": "backups", "persistentVolumeClaim": {"claimName": "mine"}});
            let spec = json!({"containers": [], "volumes": [volume]});
            serde_json::from_value(
                json!({"metadata": {}, "spec": spec, "status": {"containerStatuses": [status]}}),
            )
            .unwrap()
        };
        let said = |at: &str| format!(r#"{{"backedUp":{{"time":"{at}","file":"f","size":3,"rows":4}}}}"#);
        let pods = [
            pod("2026-11-20T00:01:00Z", 0, &said("2026-11-20T00:00:00Z")),
            pod("2026-11-22T00:01:00Z", 0, &said("2026-11-22T00:00:00Z")),
            pod("2026-11-21T00:01:00Z", 1, r#"{"failed":{"error":"no space"}}"#),
            pod("2026-11-19T00:01:00Z", 137, "Killed"),
        ];
        let ends = |pods: &[Pod]| ends(pods, &mine());
        assert_eq!(super::ends(&pods, &Place::Claim("another".to_owned())), Ends::default());
        let busy = [pod("2026-11-23T00:01:00Z", 1, r#""busy""#)];
        assert_eq!(ends(&busy), Ends::default());
        let all = ends(&pods);
        assert_eq!(all.made.unwrap().time, "2026-11-22T00:00:00Z");
        let failed = ends(&pods[2..]).failed.unwrap();
        assert_eq!(failed, (time("2026-11-21T00:01:00Z"), "no space".to_owned()));
        // One that ended before a good one did is no news, whenever that was begun.
        let long = [
            pod("2026-11-22T00:40:00Z", 0, &said("2026-11-22T00:00:00Z")),
            pod("2026-11-22T00:20:00Z", 1, r#"{"failed":{"error":"no space"}}"#),
        ];
        assert_eq!(ends(&long).failed, None);
        let killed = ends(&pods[3..]).failed.unwrap().1;
        assert!(killed.contains("137") && killed.contains("Killed"), "{killed}");
    }
}
