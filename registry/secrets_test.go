package registry_test

import (
	"os"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer/registry"
)

// TestSecretsStayHidden: no message shows any part of the secrets in testdata.
func TestSecretsStayHidden(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"secrets", "credentials", "syntax"} {
		_, err := registry.New(adapters(), registry.WithFS(os.DirFS(manifests+"/invalid/"+dir)))
		if err == nil {
			t.Fatalf("%s: accepted", dir)
		}
		for _, secret := range []string{"0123456789", "b3BlbnNzaC1r", "correct horse", "4f5e6d7c", "12345678", "hunter2", "AKIA", "p4ss word", "abc@", "ghp_", "what ever"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %q is shown in:\n%v", dir, secret, err)
			}
		}
	}
}

func TestSecretNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"password": true, "db_password": true, "dbPassword": true, "API_KEY": true, "api-key": true, "apiKey": true, "apikey": true,
		"token": true, "auth_token": true, "client_secret": true, "credentials": true, "private_key": true, "deploy_keys": true,
		"key": false, "": false, "public_key": false, "host_key": false, "cache_key": false, "key_id": false, "max_tokens": false,
		"token_url": false, "password_file": false, "secret_name": false, "monkey": false, "tokenizer": false, "---": false,
	} {
		if got := registry.SecretName(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"env:E2B_API_KEY": true, "file:/run/secrets/e2b": true, "vault:kv/data/e2b#key": true, "e2b-prod": true, "platform/e2b_key": true,
		"E2B_API_KEY": true, "value": true, "": true, "team-2026.key": true, "tenant-1234/key": true,
		"correct horse": false, "p@ss": false, "4f5e6d7c8b9a0f1e2d3c4b5a": false, "12345678901": false, "Zm9vYmFyCg==": false,
		"550e8400-e29b-41d4-a716-446655440000": false, "env:WITH SPACE": false,
	} {
		if got := registry.LooksLikeRef(value); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}
