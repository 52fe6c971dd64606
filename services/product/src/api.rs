//! What the service answers over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use edgeway_service::database::DatabaseError;
use edgeway_service::{Problem, Source, with_problems};
use log::{error, info};
use serde::Serialize;
use serde_json::{Value, json};

use crate::identity::{Identity, MaybeIdentity};
use crate::product::NewProduct;
use crate::store::Store;

struct Shop {
    store: Store,
    source: String,
    requests: AtomicU64,
}

pub(crate) fn routes(store: Store, source: &Source) -> Router {
    let shop = Arc::new(Shop {
        store,
        source: source.to_string(),
        requests: AtomicU64::new(0),
    });
    let routes = Router::new()
        .route("/product/all", get(list))
        .route("/product", post(add))
        .route("/product/{id}", get(show).delete(delete))
        .route("/product/{id}/", get(show).delete(delete))
        .route("/requests", get(requests))
        .route("/healthz", get(health));
    with_problems(routes)
        .layer(from_fn_with_state(Arc::clone(&shop), count))
        .with_state(shop)
}

/// A product number that is no number belongs to no product.
type Id = Result<Path<i64>, PathRejection>;

async fn list(State(shop): State<Arc<Shop>>) -> Result<Json<Value>, Refusal> {
    let products = shop.store.all().await?;
    Ok(shop.ok(&products))
}

async fn show(
    State(shop): State<Arc<Shop>>,
    MaybeIdentity(identity): MaybeIdentity,
    id: Id,
) -> Result<Json<Value>, Refusal> {
    shop.permit(identity, "product:view").await?;
    let Path(id) = id.map_err(|_| unknown())?;
    let product = shop.store.find(id).await?.ok_or_else(unknown)?;
    Ok(shop.ok(&product))
}

async fn add(
    State(shop): State<Arc<Shop>>,
    MaybeIdentity(identity): MaybeIdentity,
    product: Result<Json<NewProduct>, JsonRejection>,
) -> Result<impl IntoResponse, Refusal> {
    let identity = shop.permit(identity, "product:add").await?;
    let Json(product) =
        product.map_err(|problem| Problem::new(problem.status(), problem.body_text()))?;
    let product = shop.store.add(product).await?;
    info!("product added id={} user={:?}", product.id, identity.user);
    let location = format!("/product/{}", product.id);
    Ok((
        StatusCode::CREATED,
        [(LOCATION, location)],
        shop.ok(&product),
    ))
}

async fn delete(
    State(shop): State<Arc<Shop>>,
    MaybeIdentity(identity): MaybeIdentity,
    id: Id,
) -> Result<StatusCode, Refusal> {
    let identity = shop.permit(identity, "product:delete").await?;
    let Path(id) = id.map_err(|_| unknown())?;
    if !shop.store.delete(id).await? {
        return Err(unknown().into());
    }
    info!("product deleted id={id} user={:?}", identity.user);
    Ok(StatusCode::NO_CONTENT)
}

async fn requests(State(shop): State<Arc<Shop>>) -> Json<Value> {
    Json(json!({ "requests": shop.requests.load(Ordering::Relaxed) }))
}

async fn health(State(shop): State<Arc<Shop>>) -> Result<&'static str, Problem> {
    shop.store.ping().await.map_err(|problem| {
        error!("the database does not answer: {problem}");
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer",
        )
    })?;
    Ok("ok\n")
}

/// Every request but those that watch the service: a test can see that none has come.
async fn count(State(shop): State<Arc<Shop>>, request: Request, next: Next) -> Response {
    if !matches!(request.uri().path(), "/healthz" | "/requests") {
        shop.requests.fetch_add(1, Ordering::Relaxed);
    }
    next.run(request).await
}

impl Shop {
    fn ok(&self, data: &impl Serialize) -> Json<Value> {
        Json(json!({ "message": "OK", "source": self.source, "data": data }))
    }

    /// Asked before anything else, so that who may not see a product does not learn that it exists.
    async fn permit(
        &self,
        identity: Option<Identity>,
        permission: &'static str,
    ) -> Result<Identity, Refusal> {
        let identity = identity.ok_or_else(|| Problem::unauthorized("Bearer", "log in first"))?;
        if !self
            .store
            .permits(identity.role.clone(), permission)
            .await?
        {
            info!(
                "forbidden user={:?} role={:?} permission={permission}",
                identity.user, identity.role
            );
            return Err(Refusal::Forbidden);
        }
        Ok(identity)
    }
}

/// Anything but the answer that was asked for.
enum Refusal {
    Forbidden,
    Problem(Problem),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                Json(json!({ "message": "Forbidden" })),
            )
                .into_response(),
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Self {
        Self::Problem(error.into())
    }
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such product")
}
