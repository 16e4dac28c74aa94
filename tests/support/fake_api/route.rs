//! One request from arrival to answer.

use super::{
    FakeApi,
    faults::{Call, Fate},
    kinds, lock,
    reply::{self, Answer, Body, Failure, metadata_only},
    request::{Incoming, Target},
    watch,
    write::Context,
};
use http::{Method, Request, Response};
use serde_json::{Value, json};

/// Who calls.
pub struct Caller {
    /// Number of the client.
    pub client: u64,
    /// User name.
    pub user: String,
    /// Groups.
    pub groups: Vec<String>,
}

impl FakeApi {
    /// Logs the call, does to it what the test asked for, and answers it.
    pub(super) async fn handle(
        &self,
        caller: &Caller,
        request: Request<kube::client::Body>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap_or_default();
        let request = match Incoming::new(&head, &body) {
            Ok(request) => request,
            Err(failure) => return reply::respond(&Err(failure), self.now()),
        };
        let target = Target::of_path(&request.path);
        let call = self.call(caller, &request, target.as_ref());
        let (id, fate) = {
            let mut control = self.control();
            let fate = control.fate(&call);
            (control.log(call), fate)
        };
        match fate {
            Fate::Hang => return std::future::pending().await,
            Fate::Refuse(status) => {
                let failure = Failure::of_code(status, "refused by the test");
                return self.finish(id, Err(failure));
            }
            Fate::Delay(by) => tokio::time::sleep(by).await,
            Fate::Late(by) => {
                let api = self.clone();
                let late = tokio::spawn(async move {
                    tokio::time::sleep(by).await;
                    api.carry_out(id, target, &request)
                });
                return match late.await {
                    Ok(response) => response,
                    Err(_) => std::future::pending().await,
                };
            }
            Fate::Proceed | Fate::Cut(_) => {}
        }
        let response = self.carry_out(id, target, &request);
        if let Fate::Cut(cut) = fate {
            self.control().kill(caller.client);
            self.control().answered(id, 0);
            cut.notify_one();
            return std::future::pending().await;
        }
        response
    }

    fn call(&self, caller: &Caller, request: &Incoming, target: Option<&Target>) -> Call {
        let part = |f: fn(&Target) -> String| target.map(f).unwrap_or_default();
        Call {
            at: self.now(),
            user: caller.user.clone(),
            groups: caller.groups.clone(),
            method: request.method.to_string(),
            path: request.path.clone(),
            query: request.query.clone(),
            resource: part(|t| t.kind.resource.clone()),
            namespace: part(|t| t.namespace.clone()),
            name: part(|t| t.name().to_string()),
            subresource: target.and_then(|t| t.subresource.clone()),
            body: request.body.clone(),
            status: 0,
            id: 0,
            client: caller.client,
        }
    }

    fn carry_out(&self, id: u64, target: Option<Target>, request: &Incoming) -> Response<Body> {
        let Some(target) = target else {
            return self.finish(id, self.about_server(&request.path));
        };
        let collection = request.method == Method::GET && target.name.is_none();
        if collection && request.flag("watch") {
            return match watch::watch(self, &target, request) {
                Ok(response) => {
                    self.control().answered(id, 200);
                    response
                }
                Err(failure) => self.finish(id, Err(failure)),
            };
        }
        self.finish(id, self.answer(&target, request))
    }

    fn about_server(&self, path: &str) -> Answer {
        let definitions: Vec<kinds::Kind> = self
            .list("customresourcedefinitions", "")
            .iter()
            .map(kinds::of_definition)
            .collect();
        match path.trim_matches('/') {
            "version" => Ok((200, version())),
            "api" => Ok((200, kinds::discovery(true, &definitions))),
            "apis" => Ok((200, kinds::discovery(false, &definitions))),
            _ => Err(not_served()),
        }
    }

    fn finish(&self, id: u64, answer: Answer) -> Response<Body> {
        let response = reply::respond(&answer, self.now());
        self.control().answered(id, response.status().as_u16());
        response
    }

    fn answer(&self, target: &Target, request: &Incoming) -> Answer {
        if target.kind.resource.ends_with("reviews") {
            return self.review(target, request);
        }
        let admission = lock(&self.0.admission).clone();
        let context = Context {
            now: self.now(),
            admission: admission.as_deref(),
        };
        let mut state = self.state();
        let before = request.dry_run().then(|| state.clone());
        let answer = dispatch(&mut state, target, request, &context);
        if let Some(before) = before {
            *state = before;
        } else if request.method != Method::GET {
            self.announce(&state);
        }
        answer.map(|(code, value)| (code, as_asked(value, request)))
    }

    fn review(&self, target: &Target, request: &Incoming) -> Answer {
        if request.method != Method::POST {
            return Err(not_served());
        }
        let mut review = request.body.clone();
        let decide = lock(&self.0.review).clone();
        review["apiVersion"] = target.kind.api_version().into();
        review["kind"] = target.kind.kind.as_str().into();
        let decision = decide(self, &review);
        review["status"] = json!({"allowed": decision.allowed});
        if !decision.reason.is_empty() {
            review["status"]["reason"] = decision.reason.into();
        }
        Ok((201, review))
    }
}

fn dispatch(
    state: &mut super::store::State,
    target: &Target,
    request: &Incoming,
    context: &Context,
) -> Answer {
    match &target.subresource {
        None => {}
        Some(sub) if sub == "status" && target.kind.status => {}
        Some(_) => return Err(not_served()),
    }
    match (&request.method, &target.name) {
        (&Method::GET, None) => watch::list(state, target, request),
        (&Method::GET, Some(_)) => match state.objects.get(&target.key()) {
            Some(stored) => Ok((200, stored.value.clone())),
            None => Err(target.not_found()),
        },
        (&Method::POST, None) => state.create(target, request, context),
        (&Method::PUT, Some(_)) => state.replace(target, request, context),
        (&Method::PATCH, Some(_)) => state.patch(target, request, context),
        (&Method::DELETE, Some(_)) => state.delete(target, request, context),
        (&Method::DELETE, None) => state.delete_collection(target, request, context),
        _ => Err(Failure::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )),
    }
}

fn not_served() -> Failure {
    Failure::new(
        404,
        "NotFound",
        "the server could not find the requested resource",
    )
}

/// Lists convert themselves; single objects do here.
fn as_asked(value: Value, request: &Incoming) -> Value {
    let single = !value["metadata"]["uid"].is_null();
    if request.metadata_only && single {
        return metadata_only(&value);
    }
    value
}

fn version() -> Value {
    json!({"major": "1", "minor": "37", "gitVersion": "v1.37.2", "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "gc",
        "platform": "linux/amd64"})
}
