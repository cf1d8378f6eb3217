//! Pages and overrides on disk, each a record of JSON with a version of its own.

use serde::{Deserialize, Serialize};
use weir_model::TenantId;
use weir_state::{Batch, State};

use super::{Escalations, Page, Record};
use crate::oncall::schedule::Override;

const PAGES: &str = "oncall.pages";
const OVERRIDES: &str = "oncall.overrides";
/// Of the values in both tables.
const VERSION: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    v: u8,
    value: T,
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(&Stored { v: VERSION, value }).expect("these types have only text keys")
}

fn read<T: for<'a> Deserialize<'a>>(state: &State, table: &str) -> Vec<(TenantId, String, T)> {
    let mut found = Vec::new();
    for (tenant, key, bytes) in state.scan(table) {
        match serde_json::from_slice::<Stored<T>>(&bytes) {
            Ok(stored) if stored.v == VERSION => found.push((tenant, key, stored.value)),
            Ok(stored) => {
                tracing::error!(%tenant, table, key, version = stored.v, "a record of another version is left alone")
            }
            Err(error) => tracing::error!(%tenant, table, key, %error, "a record of an earlier run cannot be read"),
        }
    }
    found
}

impl Escalations {
    /// What changed since the last time, as it stands now.
    pub fn take_batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for record in std::mem::take(&mut self.dirty) {
            match record {
                Record::Page(id) => match self.pages.get(&id) {
                    Some(page) => batch.put(PAGES, &id.0, id.1.clone(), encode(page)),
                    None => batch.remove(PAGES, &id.0, id.1.clone()),
                },
                Record::Override(id) => match self.overrides.get(&id) {
                    Some(over) => batch.put(OVERRIDES, &TenantId::anonymous(), id, encode(over)),
                    None => batch.remove(OVERRIDES, &TenantId::anonymous(), id),
                },
            }
        }
        batch
    }

    /// Takes up what an earlier run left.
    pub fn restore(&mut self, state: &State) {
        for (tenant, id, page) in read::<Page>(state, PAGES) {
            self.pages.insert((tenant, id), page);
        }
        for (_, id, over) in read::<Override>(state, OVERRIDES) {
            self.overrides.insert(id, over);
        }
    }
}
