//! `gateway --hub A,B` where A and B are two logs and not one: led from A to B and back, it repeats nothing and hides nothing.

use std::io::{Read as _, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::sse::{Sse, get};
use crate::world::{Folder, Server};

const ANY_PORTS: [&str; 4] = ["--hub-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];

/// The way to a hub, which can be cut and mended while the hub lives on.
struct Way {
    url: String,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Way {
    fn to(hub: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let way = Self { url, cut: Arc::default(), open: Arc::default() };
        let (cut, open) = (way.cut.clone(), way.open.clone());
        let hub = hub.strip_prefix("http://").unwrap().to_owned();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if cut.load(Ordering::SeqCst) {
                    continue; // closed at once
                }
                let Ok(far) = TcpStream::connect(&hub) else { continue };
                open.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
                {
                    thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        way
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.open.lock().unwrap().drain(..).for_each(|socket| _ = socket.shutdown(Shutdown::Both));
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

fn hub(folder: &Folder) -> Server {
    Server::start(folder.command(&[&["hub"][..], &ANY_PORTS].concat()))
}

fn publish(folder: &Folder, hub: &Server, id: &str) {
    folder.stdout(&["publish", "--hub", &hub.hub, "--to", "user:ann", "--type", "t", "--id", id]);
}

/// What a user is told up to and with the next event: `gap`, and the event's id.
fn told(events: &Sse) -> String {
    let mut told = Vec::new();
    loop {
        let frame = events.next().expect("the stream goes on");
        match frame.event.as_str() {
            "push.gap" => told.push("gap".to_owned()),
            "t" => {
                told.push(frame.data["id"].as_str().unwrap().to_owned());
                return told.join(" ");
            }
            _ => {}
        }
    }
}

#[test]
fn a_gateway_between_two_logs_tells_every_change_and_repeats_nothing() {
    let folder = Folder::new("two-hubs");
    let (a, b) = (hub(&folder), hub(&folder));
    let (to_a, to_b) = (Way::to(&a.hub), Way::to(&b.hub));
    let hubs = format!("{},{}", to_a.url, to_b.url);
    let args = ["gateway", "--hub", &hubs, "--leave-log-after", "1s", "--edge-addr", "127.0.0.1:0"];
    let gateway = Server::start(folder.command(&[&args[..], &ANY_PORTS[2..]].concat()));
    let warning = gateway.process.stderr.find("SPLIT");
    assert!(
        warning.contains("WARN") && warning.contains(&to_a.url) && warning.contains(&to_b.url),
        "{warning}"
    );
    // The fault: it named no log that is followed.
    let followed = warning.split(r#""followed":""#).nth(1).unwrap().split('"').next().unwrap();
    assert!(followed.len() > 20 && warning.contains(&format!("holds {followed}")), "{warning}");
    gateway.process.stderr.find("ready for users");
    let ready = get(&format!("{}/readyz?verbose", gateway.admin));
    assert!(ready.contains(" 200 ") && ready.contains("[-]one-log SPLIT"), "{ready}");
    assert!(get(&format!("{}/metrics", gateway.admin)).contains("push_client_split 1"));

    let stream = format!("{}/v1/stream?user=ann", gateway.edge);
    let stays = Sse::open(&stream, &[]);
    stays.find("push.caught_up");
    publish(&folder, &a, "a1");
    let of_a = stays.find("t");
    assert_eq!(of_a.data["id"], "a1");

    publish(&folder, &b, "b1");
    to_a.cut();
    assert_eq!(told(&stays), "gap b1");
    to_a.mend();
    publish(&folder, &a, "a2");
    to_b.cut();
    assert_eq!(told(&stays), "gap a2", "a1 is not repeated");

    let back = Sse::open(&format!("{stream}&cursor={}", of_a.id), &[]);
    assert_eq!(back.next().unwrap().data["outcome"], "EPOCH_CHANGED", "b1 was never told to this one");
    assert_eq!(told(&back), "gap a2");

    to_b.mend();
    drop(a);
    publish(&folder, &b, "b2");
    for user in [&stays, &back] {
        assert_eq!(told(user), "gap b2", "b1 is not repeated");
    }
}

#[test]
fn publish_says_when_an_event_may_be_in_two_logs() {
    let folder = Folder::new("two-logs");
    // Takes a request and dies.
    let dying = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", dying.local_addr().unwrap());
    thread::spawn(move || {
        for mut socket in dying.incoming().map_while(Result::ok) {
            let _ = socket.read(&mut [0; 4_096]);
        }
    });
    let hub = hub(&folder);
    let hubs = format!("{url},{}", hub.hub);
    let event = |hubs: &str, id: &str| {
        folder.run(&["publish", "--hub", hubs, "--to", "user:ann", "--type", "t", "--id", id])
    };
    let twice = event(&hubs, "1");
    assert_eq!(twice.code, Some(0), "{twice:?}");
    assert!(twice.stdout.contains(r#""otherLog":true"#), "{twice:?}");
    assert!(twice.stderr.contains("may be in two logs"), "{twice:?}");
    let plain = event(&hub.hub, "2");
    assert!(!plain.stdout.contains("otherLog") && plain.stderr.is_empty(), "{plain:?}");
}
