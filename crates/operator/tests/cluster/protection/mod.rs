//! Who may do what to the objects that the operator made, and what keeps nobody waiting.

mod certificates;
mod claims;
mod deadlocks;
mod glass;
mod hands;
mod table;
