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

// TestSecretShapes: known keys are refused under any name, and what only looks a little like them is taken.
func TestSecretShapes(t *testing.T) {
	t.Parallel()
	rest := strings.Repeat("a1B2", 12)
	for value, refused := range map[string]bool{
		"e2b_0123456789abcdef0123": true, "sk-" + rest: true, "sk-ant-api03-" + rest: true, "sk_live_" + rest: true, "ghp_" + rest: true, "github_pat_" + rest: true,
		"glpat-" + rest: true, "xoxb-1234567890-abc": true, "AKIAIOSFODNN7EXAMPLE": true, "AIza" + rest[:35]: true, "ak-" + rest[:22]: true, "as-" + rest[:22]: true,
		"hf_" + rest: true, "npm_" + rest: true, "dckr_pat_" + rest: true, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.": true,
		"-----BEGIN RSA PRIVATE KEY-----": true, "-----BEGIN PRIVATE KEY-----": true, "https://u:p@example.com/": true, "HTTPS://:p@example.com": true,
		"-----BEGIN CERTIFICATE-----": false, "task-" + rest: false, "https://user@example.com/": false, "https://example.com:8080/a@b": false,
		"https://u:$TOKEN@example.com": false, "ssh://git@example.com:22/r.git": false, "git@example.com:r.git": false, "e2b_base": false,
		"postgres://postgres:postgres@db:5432/app": false, "sk-learn": false, "as-is": false,
	} {
		_, err := registry.New(adapters(), yamlDoc("mine", ext("ext.a", "config:\n  text: |\n    before "+value+" behind\n")))
		if (err != nil) != refused {
			t.Errorf("%q: got %v, want refused %v", value, err, refused)
		}
		if err != nil && strings.Contains(err.Error(), value) {
			t.Errorf("%q is shown in %v", value, err)
		}
	}
}

// TestSecretsAreNotCutOff: a message shows the beginning of a long word, and nothing of it where a key stands at the cut.
func TestSecretsAreNotCutOff(t *testing.T) {
	t.Parallel()
	key := "ghp_" + strings.Repeat("a1B2", 9)
	for before := range 80 {
		_, err := registry.New(adapters(), yamlDoc("mine", ext("ext.a", "")), yamlDoc("p", "id: profile.a\nextension: ext.a\nisolation: "+strings.Repeat(".", before)+key+strings.Repeat("x", 2000)))
		if err == nil || strings.Contains(err.Error(), "ghp_a") || !strings.Contains(err.Error(), "[redacted]") {
			t.Errorf("%d characters before a key: %v", before, err)
		}
	}
}

func TestSecretNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"password": true, "db_password": true, "dbPassword": true, "API_KEY": true, "api-key": true, "apiKey": true, "apikey": true,
		"token": true, "auth_token": true, "client_secret": true, "credentials": true, "private_key": true, "deploy_keys": true,
		"key": false, "": false, "public_key": false, "host_key": false, "cache_key": false, "key_id": false, "max_tokens": false,
		"api_tokens": true, "tokens": false, "stop_tokens": false, "context_tokens": false, // these are counted or listed; see TestSecretsByName
		"token_url": false, "password_file": false, "secret_name": false, "monkey": false, "tokenizer": false, "---": false,
	} {
		if got := registry.SecretName(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

// TestSecretsByName: what a name says of its value holds for all below it, and only for what can be a secret. Numbers and
// lists of tokens, public keys and names with a date were once refused, and a password one level down was taken.
func TestSecretsByName(t *testing.T) {
	t.Parallel()
	const public = "AAAAC3NzaC1lZDI1NTE5AAAAIHVzZXI1234567890"
	for config, refused := range map[string]bool{
		"context_tokens: 4096":                     false,
		"tokens: {context: 4096, stop: ['</s>']}":  false,
		`stop_tokens: ["</s>", "<|end of text|>"]`: false,
		"tokens: hunter 2":                         true,
		"tokens: [4f5e6d7c8b9a0f1e2d3c4b5a]":       true,
		"api_tokens: ['hunter 2']":                 true,
		"api_tokens: [12345678]":                   true,
		"access_token: 4096":                       true,
		"pull_secret: regcred-20261126":            false,
		"pull_secret: regcred20261126":             true,
		"pull_secret: 20261126-12345678":           true,
		"ssh_keys: [ssh-ed25519 " + public + " me@example.com, ecdsa-sha2-nistp256 " + public + "]": false,
		"deploy_key: sk-ecdsa-sha2-nistp256@openssh.com " + public + " token":                       false,
		"deploy_key: ssh-ed25519 " + public + " ghp_" + strings.Repeat("a1B2", 9):                   true,
		"deploy_key: ssh-ed25519 correct horse":                                                     true,
		"credentials: {user: me, pass: hunter2!}":                                                   true,
		"credentials: [{user: me@example.com, more: {a: [hunter2!]}}]":                              true,
		"credentials: {user: me@example.com, port: 22, pass: env:PASS}":                             false,
		"secrets: {db: {url: 'postgres://db/app', public_key: 'a b', key: db-key}}":                 false,
		"secret: {pin: 1234}": true,
	} {
		_, err := registry.New(adapters(), yamlDoc("mine", ext("ext.a", "config:\n  "+config+"\n")))
		if (err != nil) != refused {
			t.Errorf("%s: got %v, want refused %v", config, err, refused)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "12345678")) {
			t.Errorf("%s: the secret is shown: %v", config, err)
		}
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"env:E2B_API_KEY": true, "file:/run/secrets/e2b": true, "vault:kv/data/e2b#key": true, "e2b-prod": true, "platform/e2b_key": true,
		"E2B_API_KEY": true, "value": true, "": true, "team-2026.key": true, "regcred-20261126": true, "20261126/regcred": true, "tenant-1234/key": true,
		"correct horse": false, "p@ss": false, "4f5e6d7c8b9a0f1e2d3c4b5a": false, "12345678901": false, "Zm9vYmFyCg==": false,
		"550e8400-e29b-41d4-a716-446655440000": false, "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee": false, "1234-12345678": false, "env:WITH SPACE": false,
	} {
		if got := registry.LooksLikeRef(value); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}
