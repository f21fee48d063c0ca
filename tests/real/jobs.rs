//! Jobs over one window of time after another, and counts that are kept.

mod bench;
mod changes;
mod chaos;
mod days;
mod exits;
mod flows;
mod kept;
mod place;
mod soak;
mod windows;
