//! Three servers that are one cluster.

use std::io;
use std::path::Path;

use super::{Broker, DRAWS, Settings, free_ports, is_taken};

/// How many servers a cluster has: the fewest that go on without one of them.
const SERVERS: usize = 3;

/// Nobody listens here. The servers tell each other to connect by themselves beside their routes, and this is where they are told to.
const NOBODY: &str = "127.0.0.1:1";

/// What a server says once it knows who leads the cluster, itself included.
const LED: &str = "metadata leader";

/// Three servers. All are gone when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Each by itself, to be killed, stopped and started again.
    pub servers: Vec<Broker>,
    /// Where each takes the route of the one before it, and of nobody else.
    routes: Vec<u16>,
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
        let mut servers = Vec::new();
        for (index, (port, to_clients)) in to_each_other.iter().zip(to_clients).enumerate() {
            let broker = Broker::new(program, *to_clients)?;
            let next = to_each_other[(index + 1) % SERVERS];
            // As many routes as there are servers: from this they know how many they wait for.
            let cluster = format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{port}\", advertise: \"{NOBODY}\", no_advertise: true, \
                 routes: [\"nats://127.0.0.1:{next}\", \"nats://{NOBODY}\", \"nats://{NOBODY}\"] }}"
            );
            broker.configure(settings, Some(&format!("n{index}")), &cluster)?;
            servers.push(broker);
        }
        servers.iter_mut().try_for_each(Broker::begin)?;
        servers.iter().try_for_each(|server| server.find(LED))?;
        Ok(Self { servers, routes: to_each_other.to_vec() })
    }

    /// Where all of them are reached, separated by commas.
    #[must_use]
    pub fn urls(&self) -> String {
        self.servers.iter().map(Broker::url).collect::<Vec<_>>().join(",")
    }

    /// Every port by which this server speaks with anybody, and nobody speaks with another: whoever drops the packets of these, cuts it
    /// off from the others and from clients.
    #[must_use]
    pub fn ports_of(&self, index: usize) -> [u16; 3] {
        [self.servers[index].port, self.routes[index], self.routes[(index + 1) % SERVERS]]
    }

    /// The server of this name, which `n0` is the first of.
    pub fn named(&mut self, name: &str) -> Option<&mut Broker> {
        let index: usize = name.strip_prefix('n')?.parse().ok()?;
        self.servers.get_mut(index)
    }
}
