//! What every verb has at hand: where the coordinator is, and which namespace is meant.

use std::cell::OnceCell;

use crate::age::unix_now;
use crate::args::Global;
use crate::config::Config;
use crate::connect::{Client, Warnings};
use crate::error::Error;
use crate::expiry;
use crate::out::Out;

/// The flags that every verb takes, and the configuration they lead to.
pub(crate) struct Context {
    global: Global,
    config: OnceCell<Config>,
    warnings: Warnings,
}

impl Context {
    /// What these flags say.
    pub(crate) fn new(global: Global) -> Self {
        Self { global, config: OnceCell::new(), warnings: Warnings::default() }
    }

    /// Connects to the coordinator.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let timeout = self.global.request_timeout;
        let client = Client::connect(self.config()?, timeout, self.warnings.clone()).await?;
        Ok(client.allowing_removal(self.global.allow_removal))
    }

    /// Tells what the coordinator said beside its answers, and was not told yet.
    pub(crate) fn tell_warnings(&self, out: &mut Out) {
        for warning in self.warnings.take() {
            out.note(format!("Warning: {warning}"));
        }
    }

    /// The namespace where an object names none.
    pub(crate) fn namespace(&self) -> Result<String, Error> {
        if let Some(namespace) = self.said_namespace() {
            return Ok(namespace.to_owned());
        }
        Ok(self.config()?.namespace.clone().unwrap_or_else(|| "default".into()))
    }

    /// The namespace given on the command line.
    pub(crate) fn said_namespace(&self) -> Option<&str> {
        self.global.namespace.as_deref()
    }

    /// What whoever asked with this configuration should know of it.
    pub(crate) fn warning(&self) -> Option<String> {
        expiry::warning(&self.config.get()?.certificate, unix_now())
    }

    fn config(&self) -> Result<&Config, Error> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = Config::load(self.global.config.as_deref())?;
        Ok(self.config.get_or_init(|| config))
    }
}
