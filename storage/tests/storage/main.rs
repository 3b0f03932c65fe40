//! The log from outside, on real files: how it is used, what a crash leaves, what damage does.

#[cfg(test)]
mod backup;
#[cfg(test)]
mod control;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod directory;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod history;
#[cfg(test)]
mod index_files;
#[cfg(test)]
mod layers;
#[cfg(test)]
mod log;
#[cfg(test)]
mod open_from;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod repair_base;
#[cfg(test)]
mod repair_moved;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod support;
#[cfg(test)]
mod truncate;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod world;
