//! Plain requests: rows look at statuses, bodies and headers, which typed clients hide.

use super::Ctx;
use futures::StreamExt;
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::Value;
use std::time::Duration;

/// A watch that says nothing for this long is broken.
const SILENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub code: u16,
    /// JSON body.
    pub body: Value,
    /// `Date` header.
    pub date: Option<String>,
}

impl Reply {
    /// The body, if the status is this one.
    pub fn expect(self, code: u16) -> Result<Value, String> {
        if self.code == code {
            return Ok(self.body);
        }
        Err(format!(
            "answered {} {}, expected {code}",
            self.code, self.body
        ))
    }

    /// The `Status` body of a refusal with this HTTP status and reason.
    pub fn refused(self, code: u16, reason: &str) -> Result<Value, String> {
        let body = self.expect(code)?;
        let worded =
            body["kind"] == "Status" && body["code"] == code && body["status"] == "Failure";
        if !worded || body["reason"].as_str().unwrap_or_default() != reason {
            return Err(format!("refused with {body}, expected reason {reason}"));
        }
        Ok(body)
    }
}

/// An open watch.
pub struct Watch {
    data: futures::stream::BoxStream<'static, Result<Vec<u8>, String>>,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Value>, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| e.to_string());
            }
            let more = tokio::time::timeout(SILENCE, self.data.next()).await;
            match more.map_err(|_| "the watch says nothing".to_string())? {
                None => return Ok(None),
                Some(bytes) => self.buffer.extend(bytes?),
            }
        }
    }

    /// The next event as its type and the object's name.
    pub async fn seen(&mut self) -> Result<(String, String), String> {
        let event = self.event().await?;
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        Ok((
            text(&event["type"]),
            text(&event["object"]["metadata"]["name"]),
        ))
    }

    /// The next event, which must come.
    pub async fn event(&mut self) -> Result<Value, String> {
        self.next().await?.ok_or("the watch ended".to_string())
    }
}

impl Ctx {
    async fn send(
        &self,
        method: &str,
        path: &str,
        media: (&str, &str),
        body: &Value,
    ) -> Result<http::Response<Body>, String> {
        let bytes = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", media.0)
            .header("accept", media.1)
            .body(Body::from(bytes))
            .map_err(|e| e.to_string())?;
        self.client.send(request).await.map_err(|e| e.to_string())
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        media: (&str, &str),
        body: &Value,
    ) -> Result<Reply, String> {
        let response = self.send(method, path, media, body).await?;
        let code = response.status().as_u16();
        let date = response.headers().get("date");
        let date = date.and_then(|d| d.to_str().ok()).map(str::to_string);
        let bytes = response
            .into_body()
            .collect_bytes()
            .await
            .map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::String(text));
        Ok(Reply { code, body, date })
    }

    pub async fn get(&self, path: &str) -> Result<Reply, String> {
        self.ask("GET", path, (JSON, JSON), &Value::Null).await
    }

    /// GET with another `Accept`.
    pub async fn get_as(&self, path: &str, accept: &str) -> Result<Reply, String> {
        self.ask("GET", path, (JSON, accept), &Value::Null).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Reply, String> {
        self.ask("POST", path, (JSON, JSON), body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Reply, String> {
        self.ask("PUT", path, (JSON, JSON), body).await
    }

    /// JSON merge patch.
    pub async fn merge(&self, path: &str, body: &Value) -> Result<Reply, String> {
        self.patch(path, "application/merge-patch+json", body).await
    }

    /// Server-side apply; `path` carries the field manager.
    pub async fn apply(&self, path: &str, body: &Value) -> Result<Reply, String> {
        self.patch(path, "application/apply-patch+yaml", body).await
    }

    pub async fn patch(&self, path: &str, media: &str, body: &Value) -> Result<Reply, String> {
        self.ask("PATCH", path, (media, JSON), body).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Result<Reply, String> {
        self.ask("DELETE", path, (JSON, JSON), options).await
    }

    /// Opens a watch; `path` carries the parameters but `watch`.
    pub async fn watch(&self, path: &str) -> Result<Watch, String> {
        self.watch_as(path, JSON).await
    }

    /// Opens a watch with another `Accept`.
    pub async fn watch_as(&self, path: &str, accept: &str) -> Result<Watch, String> {
        let glue = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{glue}watch=true");
        let response = self
            .send("GET", &path, (JSON, accept), &Value::Null)
            .await?;
        let code = response.status().as_u16();
        if code != 200 {
            return Err(format!("the watch was answered with {code}"));
        }
        let data = response.into_body().into_data_stream();
        let data = data.map(|chunk| chunk.map(|c| c.to_vec()).map_err(|e| e.to_string()));
        Ok(Watch {
            data: data.boxed(),
            buffer: Vec::new(),
        })
    }
}

const JSON: &str = "application/json";
