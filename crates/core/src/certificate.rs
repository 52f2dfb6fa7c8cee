//! From when to when a certificate of one's own is of use to the peers that it is shown to.
//!
//! Called by whoever presents one, a listener or a client, before a renewed file takes the place of what it has. It only
//! reads what the certificates say: whether a peer trusts them is the peer's business.

use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// From when to when peers take a chain for valid, as far as whoever presents it can tell.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    from: ASN1Time,
    until: ASN1Time,
}

impl Validity {
    /// Of a chain in DER, one's own certificate first; `None` if that cannot be read.
    ///
    /// What counts is one's own certificate and, where the chain holds it, the one that signed it: of several copies of that
    /// the one that lasts longest. Whatever else lies in the file a peer may do without.
    #[must_use]
    pub fn of_chain(chain: &[impl AsRef<[u8]>]) -> Option<Self> {
        let mut chain = chain.iter().map(|der| X509Certificate::from_der(der.as_ref()).ok());
        let (_, own) = chain.next()??;
        let all = Self::of(&own);
        let signers = chain.flatten().filter(|(_, other)| other.subject() == own.issuer());
        let signer = signers.map(|(_, signer)| Self::of(&signer)).max_by_key(|signer| signer.until);
        let Some(signer) = signer else { return Some(all) };
        Some(Self { from: all.from.max(signer.from), until: all.until.min(signer.until) })
    }

    fn of(certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        Self { from: validity.not_before, until: validity.not_after }
    }

    /// Why peers will refuse it at this time, in seconds since the Unix epoch, if they will.
    #[must_use]
    pub fn fault(&self, now_unix_s: i64) -> Option<String> {
        let Self { from, until } = self;
        if until.timestamp() < now_unix_s {
            return Some(format!("the certificate has expired ({until})"));
        }
        (now_unix_s < from.timestamp()).then(|| format!("the certificate is not valid yet ({from})"))
    }
}
