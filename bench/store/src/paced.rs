//! A disk whose sync takes a fixed time, and nothing is kept: so what the store itself adds shows, however busy the real
//! disk is.
//!
//! The time is slept. A real disk works meanwhile as little with the processor as this one.

use std::io;
use std::thread;
use std::time::Duration;

use galaxy_push_store::disk::files::{FileAt, Files};

/// The disk, and each of its files.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    /// What a sync takes.
    pub sync: Duration,
}

impl Files for Paced {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn read(&self, _: &str, _: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn create(&self, _: &str, _: u64) -> io::Result<Box<dyn FileAt>> {
        Ok(Box::new(*self))
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn FileAt>> {
        Ok(Box::new(*self))
    }

    fn cut(&self, _: &str, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl FileAt for Paced {
    fn write(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn wipe(&mut self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        thread::sleep(self.sync);
        Ok(())
    }
}
