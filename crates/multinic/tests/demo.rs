//! The demo verifies everything, and leaves nothing behind, however it ends.

#![allow(clippy::unwrap_used, clippy::expect_used)] // Tests fail loudly.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use multinic_testbed::program::Program;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(60);

fn demo(folder: &Path, arguments: &[&str]) -> Program {
    let stage = folder.join("stage");
    fs::create_dir(&stage).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_multinic"));
    command.arg("demo").args(arguments).env("TMPDIR", stage);
    Program::start("the demo", command, folder.join("log")).unwrap()
}

fn wait(what: &str, demo: &mut Program, mut holds: impl FnMut(&mut Program) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(demo) {
        assert!(Instant::now() < deadline, "{what} did not come about:\n{}", demo.output());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn assert_nothing_is_left(folder: &Path) {
    let stage = folder.join("stage");
    assert_eq!(fs::read_dir(&stage).unwrap().count(), 0, "files");
    let stage = stage.to_str().unwrap().to_owned();
    let left = fs::read_dir("/proc").unwrap().flatten().any(|process| {
        fs::read(process.path().join("cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&stage))
    });
    assert!(!left, "a process of the demo is left");
}

#[test]
fn the_demo_verifies_everything_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path(), &["--json", "--nodes", "2"]);
    wait("the end of the demo", &mut demo, |demo| !demo.is_running());
    assert_eq!(demo.terminate(Duration::from_secs(1)).unwrap().code(), Some(0), "{}", demo.output());
    assert!(demo.output().contains("\"verified\": true"), "{}", demo.output());
    assert_nothing_is_left(folder.path());
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = demo(folder.path(), &[]);
    wait("the nodes", &mut demo, |demo| demo.output().contains("attaching ports"));
    kill(Pid::from_raw(demo.pid().try_into().unwrap()), Signal::SIGTERM).unwrap();
    wait("the end of the demo", &mut demo, |demo| !demo.is_running());
    assert_eq!(demo.terminate(Duration::from_secs(1)).unwrap().code(), Some(1), "{}", demo.output());
    assert_nothing_is_left(folder.path());
}
