//! The engine on a simulated disk, without threads: crashes at every operation, and bytes that change.

mod answers;
mod crash;
mod damage;
mod followed;
mod full;
mod given_up;
mod keys;
mod lost;
mod records;
mod release;
mod world;
mod young;
