//! How an id changed hands, in its register: written so that hubs from before that read the register as they always did.
//!
//! They know of pairs of an instance and its attempt, 32 at most, and of nothing behind them. So it is one of these pairs, the first,
//! with a name that no instance can have, for it has a space in it. Such a hub passes it on with the others when it writes the
//! register. What cannot be read is as if nothing had happened.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::bucket::hex;
use crate::fence::{FORMER_MAX, Former, HeldOff, OwnershipFlap, RETURNS};
use crate::fields::Fields;

/// What its name begins with, as hubs of every version write it; the bytes follow in hexadecimal.
const MARK: &str = " duel ";

/// The version of the bytes, in place of an attempt. What a later one has besides lies behind what this one has.
const VERSION: u64 = 1;

/// The pair that it is. `None`: nothing has happened.
pub(super) fn write(flap: &OwnershipFlap) -> Option<(String, u64)> {
    if *flap == OwnershipFlap::default() {
        return None;
    }
    let mut out = Vec::new();
    let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
    for returns in [&flap.returns, &flap.own_returns] {
        put(returns.len() as u64);
        returns.iter().for_each(|at| put(ms(*at)));
    }
    let held_off = flap.held_off.unwrap_or(HeldOff { wait: Duration::ZERO, until: Duration::ZERO });
    for time in [held_off.wait, held_off.until, flap.own_held_off.unwrap_or_default()] {
        put(ms(time));
    }
    put(flap.former.len() as u64);
    for Former { instance, attempt, until, lost } in &flap.former {
        [*instance, *attempt, ms(*until), u64::from(*lost)].into_iter().for_each(&mut put);
    }
    Some((format!("{MARK}{}", hex(&out)), VERSION))
}

/// Reads it of a pair. `None`: the pair is an instance and its attempt.
pub(super) fn read(text: &str, version: u64) -> Option<OwnershipFlap> {
    let text = text.strip_prefix(MARK)?;
    let bytes = (version >= VERSION).then(|| unhex(text)).flatten();
    Some(bytes.and_then(|bytes| read_fields(Fields(&bytes))).unwrap_or_default())
}

fn read_fields(mut fields: Fields<'_>) -> Option<OwnershipFlap> {
    let mut returns = || {
        let count = count(&mut fields, RETURNS)?;
        (0..count).map(|_| time(&mut fields)).collect::<Option<VecDeque<_>>>()
    };
    let (returns, own_returns) = (returns()?, returns()?);
    let (wait, until, own_until) = (time(&mut fields)?, time(&mut fields)?, time(&mut fields)?);
    let former = (0..count(&mut fields, FORMER_MAX)?).map(|_| {
        let (instance, attempt) = (fields.u64()?, fields.u64()?);
        Some(Former { instance, attempt, until: time(&mut fields)?, lost: fields.u64()? != 0 })
    });
    let former = former.collect::<Option<_>>()?;
    let held_off = (!until.is_zero()).then_some(HeldOff { wait, until });
    Some(OwnershipFlap {
        former,
        returns,
        own_returns,
        held_off,
        own_held_off: (!own_until.is_zero()).then_some(own_until),
    })
}

fn count(fields: &mut Fields<'_>, most: usize) -> Option<usize> {
    usize::try_from(fields.u64()?).ok().filter(|count| *count <= most)
}

fn time(fields: &mut Fields<'_>) -> Option<Duration> {
    fields.u64().map(Duration::from_millis)
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}
