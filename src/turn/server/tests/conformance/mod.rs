//! What the RFCs ask for and no other test shows, a row or a few at a time; the rows are in `tests/data/turn/rows.txt`.

mod policy;
mod soak;
mod stun;
mod turn;
