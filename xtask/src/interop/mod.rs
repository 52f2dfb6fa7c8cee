//! `cargo xtask interop`: peers in other languages against the real binary.
//!
//! Called from `commands` and `test`. Only prepares and starts them: what is played and expected is in `interop/`, one list of
//! scenes for all languages, `interop/SCENES.md`.

mod go;
mod node;
mod python;
mod users;

pub(crate) use go::gateway as old_gateway;

use std::process::Command;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::{project::Project, shell};

/// The list of scenes that every peer plays, relative to the root.
const SCENES: &str = "interop/SCENES.md";

/// A peer and what to play with it.
#[derive(Debug, Subcommand)]
pub(crate) enum Peer {
    /// A gateway of the old kind in Go: grpc-go, generated as teams do it.
    Go(Choice),
    /// The same on Node: grpc-js, the contract loaded when it runs.
    Node(Choice),
    /// The same in Python, and a hub written in Python before our own client: grpcio.
    Python {
        #[command(flatten)]
        choice: Choice,
        /// Also the scenes that take more than a minute.
        #[arg(long)]
        long: bool,
    },
    /// People's own libraries, unmodified, through cuts and proxies: EventSource and its polyfills, WebSocket clients, CloudEvents
    /// SDKs, Chromium.
    Users(Choice),
}

/// Which scenes to play.
#[derive(Debug, Default, Args)]
pub(crate) struct Choice {
    /// Only scenes whose name contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

impl Peer {
    /// Every short scene of the Go peer.
    pub(crate) fn go() -> Self {
        Self::Go(Choice::default())
    }

    /// Every scene of the Node peer.
    pub(crate) fn node() -> Self {
        Self::Node(Choice::default())
    }

    /// Every short scene of the Python peer.
    pub(crate) fn python() -> Self {
        Self::Python { choice: Choice::default(), long: false }
    }

    /// Every scene of people's own libraries.
    pub(crate) fn users() -> Self {
        Self::Users(Choice::default())
    }

    /// Prepares the peer and plays the scenes.
    ///
    /// # Errors
    ///
    /// When something is missing, with what to install; or when a scene failed, which the peer has shown.
    pub(crate) fn play(self, project: &Project) -> Result<()> {
        match self {
            Self::Go(choice) => go::play(project, &choice),
            Self::Node(choice) => node::play(project, &choice),
            Self::Python { choice, long } => python::play(project, &choice, long),
            Self::Users(choice) => users::play(project, &choice),
        }
    }
}

/// Adds what every peer is told, and runs it in the root.
fn run(project: &Project, mut peer: Command, name: &str, choice: &Choice) -> Result<()> {
    let binary = project.binary("galaxy-push")?;
    let work = project.output.join("interop").join(name).join("work");
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    peer.current_dir(&project.root)
        .arg("--binary")
        .arg(binary)
        .args(["--scenes", SCENES])
        .arg("--work")
        .arg(work);
    if let Some(only) = &choice.only {
        peer.args(["--only", only]);
    }
    shell::check(&mut peer)
}
