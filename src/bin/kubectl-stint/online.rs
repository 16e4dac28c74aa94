//! The cluster's own answer: a server-side dry run goes through schema, webhooks and admission policies and stores nothing.

use crate::connect::{Connection, Target, Wish};
use crate::outcome::Failure;
use crate::rbac::Known;
use crate::read::Object;
use crate::report::{Finding, Judged, Level, trailing_code};
use crate::schema;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::Api;
use kube::client::Body;
use kube::core::Status;
use serde_json::{Value, json};
use stint::domain::facts;
use stint::domain::rules::Rule;

/// A cluster that is asked.
pub struct Cluster {
    connection: Connection,
}

impl Cluster {
    /// The cluster of a target.
    pub async fn of(target: &Target) -> Result<Self, String> {
        let connection = Connection::open(target).await.map_err(Failure::text)?;
        Ok(Self { connection })
    }

    /// The same over a connection that is there.
    pub fn over(connection: &Connection) -> Self {
        let connection = connection.clone();
        Self { connection }
    }

    /// The namespace of the context.
    pub fn namespace(&self) -> &str {
        self.connection.namespace()
    }

    /// What the API server answers to the creation of a Stint object.
    pub async fn judge(&self, object: &Object, namespace: &str) -> Result<Judged, String> {
        let kinds = ["WorkloadAccess", "AccessApproval"];
        let namespaced = kinds.contains(&object.kind.as_str()).then_some(namespace);
        // The schema here knows the line; the server would only say the same.
        let from_schema = schema::violations(&object.kind, &object.node);
        let findings = match from_schema.is_empty() {
            true => self.dry_run(object, namespaced).await?,
            false => {
                let finding = |v| Finding::violation(object, Level::Error, v);
                from_schema.iter().map(finding).collect()
            }
        };
        Ok(Judged::new(object, namespaced, findings, true))
    }

    async fn dry_run(
        &self,
        object: &Object,
        namespace: Option<&str>,
    ) -> Result<Vec<Finding>, String> {
        let plural = match object.kind.as_str() {
            "AccessApproval" => "accessapprovals",
            "ClusterWorkloadAccess" => "clusterworkloadaccesses",
            "AccessPolicy" => "accesspolicies",
            _ => "workloadaccesses",
        };
        let path = match namespace {
            Some(namespace) => format!("namespaces/{}/{plural}", plain(namespace)?),
            None => plural.to_owned(),
        };
        let wish = Wish {
            verb: "create",
            resource: &format!("{plural}.stint.dev"),
            namespace,
            name: None,
        };
        let uri = format!(
            "/apis/stint.dev/v1alpha1/{path}?dryRun=All&fieldValidation=Strict&fieldManager=kubectl-stint"
        );
        let request = Request::post(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(
                as_new(object, namespace).to_string().into_bytes(),
            ))
            .map_err(|e| e.to_string())?;
        let asked = async {
            let (parts, body) = self.connection.client.send(request).await?.into_parts();
            let body = body.collect().await?;
            Ok((parts, body.to_bytes()))
        };
        let asked = self.connection.ask(wish, asked).await;
        let (parts, body) = asked.map_err(Failure::text)?;
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        let answered = answer(object, parts.status, &status);
        let mut findings = answered.map_err(|error| self.connection.failed(wish, &error).text())?;
        let warnings = warnings(&parts.headers);
        findings.extend(
            warnings
                .iter()
                .map(|text| Finding::line(object, Level::Warning, text)),
        );
        Ok(findings)
    }

    /// A role as it is in the cluster.
    pub async fn role(&self, kind: &str, namespace: &str, name: &str) -> Result<Known, String> {
        let connection = &self.connection;
        let client = connection.client.clone();
        let wish = |resource, namespace| Wish {
            verb: "get",
            resource,
            namespace,
            name: Some(name),
        };
        let found = match kind {
            "Role" => {
                let wish = wish("roles", Some(plain(namespace)?));
                let api: Api<Role> = Api::namespaced(client, namespace);
                let role = connection.ask(wish, api.get_opt(name)).await;
                let role = role.map_err(Failure::text)?;
                role.map(|role| (role.rules, false))
            }
            _ => {
                let api: Api<ClusterRole> = Api::all(client);
                let wish = wish("clusterroles", None);
                let role = connection.ask(wish, api.get_opt(name)).await;
                let role = role.map_err(Failure::text)?;
                role.map(|role| (role.rules, role.aggregation_rule.is_some()))
            }
        };
        Ok(found.map_or(Known::Missing, |(rules, aggregated)| {
            Known::Found(facts::Role {
                rules: rules.iter().flatten().map(Rule::from).collect(),
                aggregated,
                ..facts::Role::default()
            })
        }))
    }
}

/// A namespace that cannot lead elsewhere in a URL.
fn plain(namespace: &str) -> Result<&str, String> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    match !namespace.is_empty() && namespace.bytes().all(legal) {
        true => Ok(namespace),
        false => Err(format!(
            "'{}' is no name of a namespace",
            namespace.escape_default()
        )),
    }
}

/// The object without what only the API server writes.
fn as_new(object: &Object, namespace: Option<&str>) -> Value {
    let mut value = object.node.value();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = value["metadata"].as_object_mut() {
        for field in [
            "resourceVersion",
            "uid",
            "creationTimestamp",
            "managedFields",
            "generation",
        ] {
            metadata.remove(field);
        }
        if let Some(namespace) = namespace {
            metadata.insert("namespace".into(), json!(namespace));
        }
    }
    value
}

/// An answer that is no answer to the question, such as a server that is not ready, is an error.
fn answer(object: &Object, code: StatusCode, status: &Value) -> kube::Result<Vec<Finding>> {
    let message = status["message"].as_str().unwrap_or_default();
    let denied = message.contains("denied the request") || message.contains("denied request");
    match code {
        code if code.is_success() => Ok(Vec::new()),
        // Names are compared last: everything that judges has said yes.
        StatusCode::CONFLICT if status["reason"] == "AlreadyExists" => {
            let text = "an object of this name exists already; as a new one it would be admitted";
            Ok(vec![Finding::remark(
                object,
                Level::Note,
                "metadata.name",
                text,
            )])
        }
        StatusCode::UNPROCESSABLE_ENTITY => Ok(refusals(object, status, message)),
        StatusCode::FORBIDDEN if denied => Ok(refusals(object, status, message)),
        StatusCode::BAD_REQUEST => Ok(refusals(object, status, message)),
        code => Err(kube::Error::Api(Box::new(Status {
            code: code.as_u16(),
            message: message.to_owned(),
            ..Status::default()
        }))),
    }
}

fn refusals(object: &Object, status: &Value, message: &str) -> Vec<Finding> {
    let causes = status["details"]["causes"].as_array();
    let causes = causes.into_iter().flatten().filter_map(|cause| {
        let (field, text) = (cause["field"].as_str()?, cause["message"].as_str()?);
        // The API server writes paths of its own schema with a dot before an index.
        let path = field.trim_start_matches('.').replace(".[", "[");
        Some(Finding {
            level: Level::Error,
            code: trailing_code(text).map(str::to_owned),
            severity: None,
            line: object.node.line_of(&path),
            message: format!("{path}: {text}"),
            path,
        })
    });
    let mut findings: Vec<Finding> = causes.collect();
    // What is beyond the causes is counted at the end of the message.
    if let Some(more) = message.lines().last().filter(|_| !findings.is_empty())
        && more.starts_with("and ")
    {
        findings.push(Finding::remark(object, Level::Note, "", more));
    }
    if findings.is_empty() {
        let finding = Finding::line(object, Level::Error, message);
        findings.push(Finding {
            path: String::new(),
            line: object.node.line,
            ..finding
        });
    }
    findings
}

/// The texts of `Warning: 299 - "text"` (RFC 7234 §5.5).
fn warnings(headers: &HeaderMap) -> Vec<String> {
    let quoted = |text: &str| {
        let (_, rest) = text.split_once('"')?;
        let (inside, _) = rest.rsplit_once('"')?;
        Some(inside.replace("\\\"", "\"").replace("\\\\", "\\"))
    };
    let all = headers.get_all(header::WARNING).iter();
    all.filter_map(|value| quoted(value.to_str().ok()?))
        .collect()
}
