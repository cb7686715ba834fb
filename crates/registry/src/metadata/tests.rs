use super::*;

#[tokio::test]
async fn a_newer_schema_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::open(folder.path(), 1024).await.unwrap();
    metadata.close().await;
    let mut connection = edgewright_sqlite::connect(&folder.path().join("registry.db")).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (9999, 'from the future', '2030-01-01', 1, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let error = Metadata::open(folder.path(), 1024).await.unwrap_err();
    assert!(matches!(error, RegistryError::NewerSchema(9999)), "{error}");
    assert!(error.to_string().contains("newer"), "{error}");
}

#[tokio::test]
async fn a_failed_change_does_not_affect_others() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = Metadata::open(folder.path(), 1024).await.unwrap();
    let begin = |name: &str| Change::BeginUpload {
        upload: name.parse().unwrap(),
        repository: "a".parse().unwrap(),
        quota: UploadQuota { owner: "a".to_owned(), total: 100, share: 100 },
    };
    let failing = || Change::DeleteTag { repository: "a".parse().unwrap(), tag: "t".parse().unwrap() };
    let (first, second, third) = tokio::join!(
        metadata.change(begin("one")),
        metadata.change(failing()),
        metadata.change(begin("two"))
    );
    assert!(first.is_ok() && third.is_ok());
    assert!(matches!(second, Err(RegistryError::ManifestUnknown { .. })));
    assert!(metadata.upload(&"two".parse().unwrap()).await.unwrap().is_some());
    metadata.close().await;
    assert!(matches!(metadata.change(begin("three")).await, Err(RegistryError::Closed)));
}
