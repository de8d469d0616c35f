//! Keystone: tokens and the catalog.

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::answer::Answer;
use super::neutron::Caller;
use super::uuid::Uuid;
use super::world::{Grant, Index, Role, World};

/// Answers what is below `/v3`.
pub(super) fn answer(world: &mut World, base: &str, method: &str, path: &[&str], body: &[u8]) -> Answer {
    match (method, path) {
        ("GET", []) => Answer::ok(json!({"version": {"id": "v3.14", "status": "stable", "links": [
            {"rel": "self", "href": format!("{base}/v3/")},
        ]}})),
        ("POST", ["auth", "tokens"]) => token(world, base, body),
        _ => error(404, "Not Found", "The resource could not be found."),
    }
}

/// Whose token this is.
pub(super) fn caller(world: &World, token: Option<&str>) -> Option<Caller> {
    let Grant { project, role, expires_at } = world.tokens.get(token?)?;
    (*expires_at > Timestamp::now()).then_some(Caller { project: *project, role: *role })
}

fn error(code: u16, title: &str, message: &str) -> Answer {
    Answer::with(code, json!({"error": {"code": code, "message": message, "title": title}}))
}

fn token(world: &mut World, base: &str, body: &[u8]) -> Answer {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str);
    if request.pointer("/auth/identity").is_none() {
        // As Keystone does it: the whole request is quoted.
        let quoted = String::from_utf8_lossy(body);
        let message = format!("'identity' is a required property\n\nOn instance:\n    {quoted}");
        return error(400, "Bad Request", &message);
    }
    let granted = match text("/auth/identity/methods/0") {
        Some("password") => password(world, &request),
        Some("application_credential") => application_credential(
            world,
            text("/auth/identity/application_credential/id"),
            text("/auth/identity/application_credential/secret"),
        ),
        _ => None,
    };
    let Some((user, project)) = granted else {
        return Answer::unauthorized(base);
    };
    grant(world, base, user, project, text("/auth/identity/methods/0").unwrap_or_default())
}

fn password(world: &World, request: &Value) -> Option<(Index, Option<Index>)> {
    let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str);
    let (name, password) =
        (text("/auth/identity/password/user/name")?, text("/auth/identity/password/user/password")?);
    let domain = text("/auth/identity/password/user/domain/name")
        .or_else(|| text("/auth/identity/password/user/domain/id"))?;
    let user = world.users.iter().position(|user| {
        user.name == name
            && user.domain.eq_ignore_ascii_case(domain)
            && user.password.expose_secret() == password
    })?;
    let project = match (text("/auth/scope/project/id"), text("/auth/scope/project/name")) {
        (Some(id), _) => Some(world.projects.iter().position(|project| project.id == id)?),
        (None, Some(name)) => Some(world.projects.iter().position(|project| project.name == name)?),
        (None, None) => None,
    };
    Some((user, project))
}

fn application_credential(
    world: &World,
    id: Option<&str>,
    secret: Option<&str>,
) -> Option<(Index, Option<Index>)> {
    let credential = world.application_credentials.iter().find(|credential| {
        Some(credential.id.as_str()) == id && Some(credential.secret.expose_secret()) == secret
    })?;
    Some((credential.user, Some(credential.project)))
}

fn grant(world: &mut World, base: &str, user: Index, project: Option<Index>, method: &str) -> Answer {
    let (name, domain, roles) = match world.users.get(user) {
        Some(user) => (user.name.clone(), user.domain.clone(), user.roles.clone()),
        None => return error(500, "Internal Server Error", "The user is gone."),
    };
    let role = project.map(|project| roles.get(&project).copied());
    if role == Some(None) {
        // No role in the project is answered like a wrong password.
        return Answer::unauthorized(base);
    }
    let token = format!("gAAAAAB{:032x}{:032x}", world.random(), world.random());
    let now = Timestamp::now();
    let expires_at = now.checked_add(world.token_lifetime).unwrap_or(Timestamp::MAX);
    let domain = json!({"id": domain.to_ascii_lowercase(), "name": domain});
    let mut body = json!({
        "methods": [method],
        "user": {"domain": domain, "id": format!("{user:032x}"), "name": name, "password_expires_at": null},
        "audit_ids": [format!("{:016x}", world.tokens_issued)],
        "issued_at": microseconds(now),
        "expires_at": microseconds(expires_at),
    });
    if let (Some(project), Some(Some(role)), Some(body)) = (project, role, body.as_object_mut()) {
        world.tokens.insert(token.clone(), Grant { project, role, expires_at });
        let names: &[&str] = if role == Role::Admin { &["admin", "reader"] } else { &["reader"] };
        let named = world.projects.get(project).map_or("", |project| &project.name);
        body.insert(
            "project".to_owned(),
            json!({"domain": domain, "id": world.project_id(project), "name": named}),
        );
        body.insert("is_domain".to_owned(), false.into());
        body.insert("roles".to_owned(), names.iter().map(|name| json!({"id": name, "name": name})).collect());
        body.insert("catalog".to_owned(), catalog(world));
    }
    world.tokens_issued += 1;
    let mut answer = Answer::with(201, json!({ "token": body }));
    answer.headers.push(("x-subject-token", token));
    answer.headers.push(("vary", "X-Auth-Token".to_owned()));
    answer
}

fn catalog(world: &World) -> Value {
    let mut services: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (at, endpoint) in world.endpoints.iter().enumerate() {
        services.entry(&endpoint.service).or_default().push(json!({
            "id": format!("{at:032x}"),
            "interface": endpoint.interface,
            "region": endpoint.region,
            "region_id": endpoint.region,
            "url": endpoint.url,
        }));
    }
    let name = |kind: &str| match kind {
        "network" => "neutron".to_owned(),
        "compute" => "nova".to_owned(),
        "identity" => "keystone".to_owned(),
        other => other.to_owned(),
    };
    let service = |(kind, endpoints): (&str, Vec<Value>)| json!({"type": kind, "name": name(kind), "id": kind, "endpoints": endpoints});
    services.into_iter().map(service).collect()
}

fn microseconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Keystone's ids have no dashes.
pub(super) fn plain(id: Uuid) -> String {
    id.to_string().replace('-', "")
}
