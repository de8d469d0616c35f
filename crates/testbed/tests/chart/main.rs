//! The Helm chart: that it is what `deploy/` is, what it makes of values and what it refuses, and its life on a real API
//! server, by hand and by `scripts/`; and what docs/ says of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod bundle;
mod documents;
mod golden;
mod helm;
mod life;
mod one_truth;
mod page;
mod refusals;
mod rights;
mod scripts;
mod site;
