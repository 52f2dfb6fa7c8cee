//! `revoke` and `member`: standing records, said to a hub until it has acknowledged them.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use galaxy_push_client::{Failure, Invalidated, Publisher};
use galaxy_push_proto::v1;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::patience::patiently;
use super::print_ack;
use crate::args::{MemberArgs, MemberCommand, RevokeArgs, SayArgs};
use crate::peer::Peer;

const UNKNOWN: &str =
    "Whether the hub took the record is unknown: repeat the command, which says the same once more";

/// No answer of a hub says which store it has, so this is said for all.
const FORGETS: &str = "note: a hub with --store disk keeps this over a restart, and so does one with --store nats. One with --store memory, the default, forgets it, \
                       and a token that has not expired is good again: say it again then";

pub(crate) async fn revoke(args: RevokeArgs) -> anyhow::Result<()> {
    let recipient = match (&args.session, &args.user) {
        (Some(session), _) => format!("session:{session}"),
        (None, user) => format!("user:{}", user.as_deref().unwrap_or_default()), // clap: one of them is there
    };
    let record = v1::SessionInvalidation {
        recipient,
        reason: args.reason,
        issued_before: args.before.map(prost_types::Timestamp::from),
        expires_at: expiry(args.expires),
    };
    let peer = Peer::of(&args.say.peer, &args.say.hub)?;
    let mut publisher = publisher(&args.say, &peer)?;
    let trouble = publisher.trouble();
    let call = async {
        let Invalidated { cursor, issued_before, .. } = publisher.invalidate(record).await?;
        let mut answer = json!({ "cursor": cursor });
        if !issued_before.is_empty() {
            answer["issuedBefore"] = issued_before.into();
        }
        Ok(answer)
    };
    said(&args.say, &peer, trouble, call).await?;
    tell(FORGETS);
    Ok(())
}

pub(crate) async fn member(command: MemberCommand) -> anyhow::Result<()> {
    let (MemberArgs { recipient, topic, say }, member, expires) = match command {
        MemberCommand::Add { whom, expires } => (whom, true, expires),
        MemberCommand::Remove { whom } => (whom, false, None),
    };
    let record = v1::Membership { recipient, topic, member, expires_at: expiry(expires) };
    let peer = Peer::of(&say.peer, &say.hub)?;
    let mut publisher = publisher(&say, &peer)?;
    let trouble = publisher.trouble();
    let call = async { Ok(json!({ "cursor": publisher.set_memberships(vec![record]).await? })) };
    said(&say, &peer, trouble, call).await
}

fn publisher(say: &SayArgs, peer: &Peer) -> anyhow::Result<Publisher> {
    let builder = peer.clone().publisher(Publisher::builder().hub(&say.hub.join(",")));
    Ok(builder.give_up_after(say.timeout).build()?)
}

/// Waits for the hub's answer and prints it.
async fn said(
    say: &SayArgs,
    peer: &Peer,
    trouble: watch::Receiver<Option<Failure>>,
    call: impl Future<Output = Result<Value, Failure>>,
) -> anyhow::Result<()> {
    let hubs = say.hub.join(",");
    let answer = patiently(&hubs, peer, say.timeout, trouble, tell, call).await;
    let answer = answer.map_err(|no_answer| match &no_answer.failure {
        Failure::Status(status) => anyhow!("the hub refused the record: {}", status.message),
        _ => no_answer.explain(&hubs, UNKNOWN),
    })?;
    print_ack(&answer.to_string(), "the record")
}

/// Says something to whoever is there. Nobody may be, which is no reason to end.
fn tell(text: &str) {
    drop(std::io::stderr().write_all(format!("{text}\n").as_bytes()));
}

/// When something ends that lasts so long from now, by this machine's clock.
fn expiry(life: Option<Duration>) -> Option<prost_types::Timestamp> {
    let now = Duration::from_millis(galaxy_push_listener::ambient().unix_ms());
    // A flag's 100 years at most, which the contract's times, up to the year 9999, have room for.
    life.map(|life| (SystemTime::UNIX_EPOCH + now + life).into())
}
