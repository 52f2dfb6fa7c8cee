//! One client's way to a server, which can be cut and mended while the server and its other clients live on.

use std::io::{self, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::Broker;

/// A way to a server. Its threads end with its connections; its listener lives as long as the process.
#[derive(Debug)]
pub struct Way {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    is_cut: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Way {
    /// Begins one.
    ///
    /// # Errors
    ///
    /// No port can be had.
    pub fn to(broker: &Broker) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let way = Self { port: listener.local_addr()?.port(), state: Arc::default() };
        let (state, far) = (way.state.clone(), broker.port);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // One that is not served is closed at once.
                let _closed = state.pass(&near, far);
            }
        });
        Ok(way)
    }

    /// The port that it begins at.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where it begins.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends all connections, and lets none through until it is mended.
    pub fn cut(&self) {
        let mut open = self.state.lock();
        self.state.is_cut.store(true, Ordering::SeqCst);
        for socket in open.drain(..) {
            let _ = socket.shutdown(Shutdown::Both); // it may be closed already
        }
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.state.is_cut.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, near: &TcpStream, port: u16) -> io::Result<()> {
        let mut open = self.lock();
        if self.is_cut.load(Ordering::SeqCst) {
            return Ok(());
        }
        let far = TcpStream::connect(("127.0.0.1", port))?;
        for (mut from, mut to) in
            [(near.try_clone()?, far.try_clone()?), (far.try_clone()?, near.try_clone()?)]
        {
            open.push(from.try_clone()?);
            thread::spawn(move || {
                let _ = copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
        }
        Ok(())
    }
}
