//! `cargo xtask brokers`: three NATS brokers on this machine that are one cluster, to try hubs over them.
//!
//! Called from `commands`. They have nothing in common with the brokers of the tests but the program.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context, Result};

use crate::{project::Project, tools::Tools, ui};

/// Where clients find them.
const CLIENT_PORTS: [u16; 3] = [4222, 4223, 4224];

/// Where they find each other.
const ROUTE_PORTS: [u16; 3] = [6222, 6223, 6224];

/// Hubs may ask when a broker syncs, as docs/operations.md has it; whoever comes without a name is one. Nobody comes but over loopback.
const ACCOUNTS: &str = r#"
accounts {
  SYS { users: [{ user: admin, password: admin }], exports: [{ service: "$SYS.REQ.SERVER.*.JSZ" }] }
  PUSH {
    jetstream: enabled, users: [{ user: hub, password: hub }]
    imports: [{ service: { account: SYS, subject: "$SYS.REQ.SERVER.*.JSZ" } }]
  }
}
system_account: SYS
no_auth_user: hub
"#;

/// Runs them until they are told to end, as by Ctrl-C; what they keep lies in `target/brokers`, and is there again next time.
pub(crate) fn run(project: &Project) -> Result<()> {
    let program = Tools::nats_server(project)?;
    let home = project.output.join("brokers");
    for port in CLIENT_PORTS.into_iter().chain(ROUTE_PORTS) {
        TcpListener::bind(("127.0.0.1", port)).with_context(|| {
            format!("port {port} is taken: end whoever has it, perhaps another nats-server")
        })?;
    }
    // Dropped on an error, and then all end.
    let mut brokers = Vec::new();
    for number in 0..CLIENT_PORTS.len() {
        brokers.push(Running(start(&program, &home, number)?));
    }
    let urls: Vec<_> = CLIENT_PORTS.map(|port| format!("nats://127.0.0.1:{port}")).into();
    ui::line(&format!(
        "three brokers, which sync before they acknowledge; their folders and logs are in target/brokers, and Ctrl-C ends them\n\
         --store nats --nats-replicas 3 --nats-url {}",
        urls.join(",")
    ));
    // One that somebody kills to see what happens is no reason to end the others; all of them end by Ctrl-C.
    thread::scope(|scope| {
        for (number, broker) in brokers.iter_mut().enumerate() {
            scope.spawn(move || {
                let ended =
                    broker.0.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
                ui::line(&format!(
                    "broker n{number} has ended ({ended}): target/brokers/n{number}/server.log says why"
                ));
            });
        }
    });
    Ok(())
}

/// Killed when dropped.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

fn start(program: &Path, home: &Path, number: usize) -> Result<Child> {
    let folder = home.join(format!("n{number}"));
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let routes = ROUTE_PORTS.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
    let text = format!(
        "server_name: n{number}\nlisten: \"127.0.0.1:{}\"\nlog_file: {:?}\njetstream {{ store_dir: {:?}, sync_interval: always }}\n\
         cluster {{ name: try, listen: \"127.0.0.1:{}\", routes: [{routes}] }}\n{ACCOUNTS}",
        CLIENT_PORTS[number],
        folder.join("server.log"),
        folder.join("store"),
        ROUTE_PORTS[number],
    );
    let config = folder.join("server.conf");
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    Command::new(program)
        .arg("--config")
        .arg(&config)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}
