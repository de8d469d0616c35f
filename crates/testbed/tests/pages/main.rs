//! What the pages of `docs/` say of the code, and of one another.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // Tests fail loudly.

mod links;
mod page;
mod quotes;
mod twins;
