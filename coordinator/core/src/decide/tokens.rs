//! Join tokens.

use super::{Fleet, unchanged};
use crate::command::{Decision, Outcome, Refusal};
use crate::record::{Record, RecordKey, TokenRecord, Write};

impl Fleet {
    pub(super) fn create_token(&self, token: &TokenRecord) -> Result<Decision, Refusal> {
        let outcome = Outcome::Token(Box::new(token.clone()));
        match self.records.tokens.get(&token.id) {
            Some(former) if former == token => return Ok(unchanged(outcome)),
            Some(_) => {
                let what = format!("tokens {:?}", token.id);
                return Err(Refusal::Conflict { what, detail: "it is there already".into() });
            }
            None => {}
        }
        if self.records.tokens.len() >= self.config.max_tokens {
            return Err(Refusal::TooMany { what: "join tokens", limit: self.config.max_tokens });
        }
        Ok(Decision { writes: vec![Write::put(Record::Token(token.clone()))], outcome })
    }

    pub(super) fn revoke_token(&self, id: &str) -> Result<Decision, Refusal> {
        let token = self.records.tokens.get(id);
        let token = token.ok_or_else(|| Refusal::TokenNotFound(id.to_owned()))?;
        let outcome = Outcome::Token(Box::new(token.clone()));
        Ok(Decision { writes: vec![Write::delete(RecordKey::Token(id.to_owned()))], outcome })
    }
}
