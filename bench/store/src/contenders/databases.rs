//! Databases that could keep the log, as they are. They are built only where figures are asked for.

use std::path::Path;

use fjall::{KeyspaceCreateOptions, PersistMode};
use redb::{Durability, TableDefinition};

use super::Contender;

pub struct Redb(redb::Database);

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

impl Redb {
    pub fn new(dir: &Path) -> Self {
        Self(redb::Database::create(dir.join("redb")).unwrap())
    }
}

impl Contender for Redb {
    fn append(&mut self, first: u64, group: usize, event: &[u8]) {
        let mut write = self.0.begin_write().unwrap();
        write.set_durability(Durability::Immediate).unwrap();
        {
            let mut table = write.open_table(TABLE).unwrap();
            for position in first..first + group as u64 {
                table.insert(position, event).unwrap();
            }
        }
        write.commit().unwrap();
    }
}

pub struct Fjall {
    database: fjall::Database,
    keyspace: fjall::Keyspace,
}

impl Fjall {
    pub fn new(dir: &Path) -> Self {
        let database = fjall::Database::builder(dir.join("fjall")).open().unwrap();
        let keyspace = database.keyspace("log", KeyspaceCreateOptions::default).unwrap();
        Self { database, keyspace }
    }
}

impl Contender for Fjall {
    fn append(&mut self, first: u64, group: usize, event: &[u8]) {
        let mut batch = self.database.batch();
        for position in first..first + group as u64 {
            batch.insert(&self.keyspace, position.to_be_bytes(), event);
        }
        batch.commit().unwrap();
        self.database.persist(PersistMode::SyncData).unwrap();
    }
}
