//! netplan(5). The files are never applied by netplan while the node runs.

pub mod check;
pub mod output;
mod read;
mod render;
mod renderer;

pub use read::read;
pub use render::render;
pub use renderer::{DIRECTORIES, renderer, said_by};
