//! Who we are to an authority.

use std::time::Duration;

use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use log::{info, warn};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{
    client::Client,
    failure::Failure,
    on_disk,
    schedule::Kind,
    spec::Authority,
    store::{Lock, Store},
};

/// The file with the account's key.
const FILE: &str = "account.json";

/// How long somebody else may be busy with the account. It takes three requests.
const PATIENCE: Duration = Duration::from_secs(120);

const STEP: Duration = Duration::from_millis(250);

#[derive(Serialize, Deserialize)]
struct Kept {
    /// As the authority knows it.
    email: Option<String>,
    credentials: AccountCredentials,
}

/// The account that is kept, or a new one, which is kept from now on.
pub(super) async fn open(
    authority: &Authority,
    store: &Store,
    client: &Client,
) -> Result<Account, Failure> {
    let _lock = lock(store).await?;
    let failed = |error| Failure::of(&error, client);
    let Some(mut kept) = kept(store).await? else {
        return create(authority, store, client).await;
    };
    let moved = kept.email != authority.email;
    // The credentials can't be copied.
    let credentials = moved.then(|| serde_json::to_vec(&kept.credentials));
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let account = builder.from_credentials(kept.credentials).await;
    let account = account.map_err(failed)?;
    if let Some(credentials) = credentials {
        let contact = contact(authority);
        let contact: Vec<_> = contact.iter().map(String::as_str).collect();
        if let Err(error) = account.update_contacts(&contact).await {
            // It is a courtesy. Certificates don't wait for it.
            warn!("the authority does not take the address: reason={error}");
            return Ok(account);
        }
        let credentials = credentials.and_then(|json| serde_json::from_slice(&json));
        kept.credentials = credentials.map_err(|error| ours(&error))?;
        kept.email.clone_from(&authority.email);
        keep(store, &kept).await?;
    }
    Ok(account)
}

/// The account that is kept, if there is one. Nothing of it is changed.
pub(super) async fn open_existing(
    store: &Store,
    client: &Client,
) -> Result<Option<Account>, Failure> {
    let Some(kept) = kept(store).await? else {
        return Ok(None);
    };
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let account = builder.from_credentials(kept.credentials).await;
    account
        .map(Some)
        .map_err(|error| Failure::of(&error, client))
}

/// Forgets an account that the authority does not know any more.
pub(super) async fn forget(store: &Store) -> Result<(), Failure> {
    let _lock = lock(store).await?;
    let discarded = store.clone();
    let discarded = on_disk(move || discarded.discard(FILE)).await;
    discarded.map_err(|error| Failure::disk("can't move", &store.path(FILE), &error))
}

async fn create(authority: &Authority, store: &Store, client: &Client) -> Result<Account, Failure> {
    let contact = contact(authority);
    let contact: Vec<_> = contact.iter().map(String::as_str).collect();
    let wanted = NewAccount {
        contact: &contact,
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let external = authority.external_account.as_ref();
    let external =
        external.map(|account| ExternalAccountKey::new(account.key_id.clone(), &account.key.0));
    let directory = &authority.directory;
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let created = builder.create(&wanted, directory.clone(), external.as_ref());
    let (account, credentials) = created.await.map_err(|error| Failure::of(&error, client))?;
    let kept = Kept {
        email: authority.email.clone(),
        credentials,
    };
    keep(store, &kept).await?;
    info!(
        "account made: authority={directory} account={}",
        account.id()
    );
    Ok(account)
}

fn contact(authority: &Authority) -> Vec<String> {
    let email = authority.email.iter();
    email.map(|email| format!("mailto:{email}")).collect()
}

async fn lock(store: &Store) -> Result<Lock, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let locked = store.clone();
        let locked = on_disk(move || locked.lock(FILE)).await;
        match locked {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if Instant::now() < until => sleep(STEP).await,
            Ok(None) => {
                let reason = "another gateway is busy with the account all the time";
                return Err(Failure::new(Kind::Passing, reason));
            }
            Err(error) => return Err(Failure::disk("can't lock", &store.path(FILE), &error)),
        }
    }
}

async fn kept(store: &Store) -> Result<Option<Kept>, Failure> {
    let path = store.path(FILE);
    let read = store.clone();
    let read = on_disk(move || read.read(FILE)).await;
    let json = read.map_err(|error| Failure::disk("can't read", &path, &error))?;
    let Some(json) = json else { return Ok(None) };
    match serde_json::from_slice(&json) {
        Ok(kept) => Ok(Some(kept)),
        Err(error) => {
            let file = path.display();
            warn!("account can't be read, another one is made: file={file} reason={error}");
            Ok(None)
        }
    }
}

async fn keep(store: &Store, kept: &Kept) -> Result<(), Failure> {
    let json = serde_json::to_vec(kept).map_err(|error| ours(&error))?;
    let written = store.clone();
    let written = on_disk(move || written.keep(FILE, &json)).await;
    written.map_err(|error| Failure::disk("can't write", &store.path(FILE), &error))
}

fn ours(error: &serde_json::Error) -> Failure {
    Failure::new(Kind::Refused, error.to_string())
}
