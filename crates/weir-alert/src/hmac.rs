//! HMAC-SHA-256, small enough to stand here.

use sha2::{Digest, Sha256};

/// Source: RFC 2104.
pub(crate) fn sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let keyed = |pad: u8, message: &[u8]| -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(block.map(|b| b ^ pad));
        hash.update(message);
        hash.finalize().into()
    };
    keyed(0x5c, &keyed(0x36, message))
}

#[cfg(test)]
mod tests {
    use super::sha256;

    /// From RFC 4231, cases 1 and 2.
    #[test]
    fn digests_of_the_standard() {
        let got = hex::encode(sha256(&[0x0b; 20], b"Hi There"));
        assert_eq!(got, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let got = hex::encode(sha256(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(got, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
