#![forbid(unsafe_code)]

fn main() {
    for crd in stint::api::custom_resource_definitions() {
        println!("---\n{}", serde_saphyr::to_string(&crd).unwrap());
    }
}
