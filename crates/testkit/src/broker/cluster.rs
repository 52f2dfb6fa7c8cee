//! Three servers that are one cluster.

use std::io;
use std::path::Path;

use super::{Broker, DRAWS, Settings, free_ports, is_taken};

/// How many servers a cluster has: the fewest that go on without one of them.
const SERVERS: usize = 3;

/// What a server says once it knows who leads the cluster, itself included.
const LED: &str = "metadata leader";

/// Three servers. All are gone when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Each by itself, to be killed, stopped and started again.
    pub servers: Vec<Broker>,
}

impl Cluster {
    /// Starts three servers, and waits until they serve as one.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`], for any of them.
    pub fn start(program: &Path, settings: &Settings) -> io::Result<Self> {
        let mut refused = io::Error::other("no port was tried");
        for _ in 0..DRAWS {
            match Self::try_start(program, settings) {
                Err(error) if is_taken(&error) => refused = error,
                started => return started,
            }
        }
        Err(refused)
    }

    fn try_start(program: &Path, settings: &Settings) -> io::Result<Self> {
        let ports = free_ports(2 * SERVERS)?;
        let (to_each_other, to_clients) = ports.split_at(SERVERS);
        let routes: Vec<_> =
            to_each_other.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let mut servers = Vec::new();
        for (index, (port, to_clients)) in to_each_other.iter().zip(to_clients).enumerate() {
            let broker = Broker::new(program, *to_clients)?;
            let cluster = format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{}] }}",
                routes.join(", ")
            );
            broker.configure(settings, Some(&format!("n{index}")), &cluster)?;
            servers.push(broker);
        }
        servers.iter_mut().try_for_each(Broker::begin)?;
        servers.iter().try_for_each(|server| server.find(LED))?;
        Ok(Self { servers })
    }

    /// Where all of them are reached, separated by commas.
    #[must_use]
    pub fn urls(&self) -> String {
        self.servers.iter().map(Broker::url).collect::<Vec<_>>().join(",")
    }

    /// The server of this name, which `n0` is the first of.
    pub fn named(&mut self, name: &str) -> Option<&mut Broker> {
        let index: usize = name.strip_prefix('n')?.parse().ok()?;
        self.servers.get_mut(index)
    }
}
