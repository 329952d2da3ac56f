package workspace_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/composessh/internal/workspace"
)

func TestParseSource(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		repo, ref string
		want      workspace.Source
	}{
		{"https://github.com/a/b.git", "", workspace.Source{URL: "https://github.com/a/b.git"}},
		{"https://[::1]:8443/a", "v1.2", workspace.Source{URL: "https://[::1]:8443/a", Ref: "v1.2"}},
		{"http://host/a", "HEAD", workspace.Source{URL: "http://host/a"}},
		{"git://host/a", "team/x", workspace.Source{URL: "git://host/a", Ref: "team/x"}},
		{"ssh://git@host:22/a%20b", "refs/pull/1/head", workspace.Source{URL: "ssh://git@host:22/a%20b", Ref: "refs/pull/1/head"}},
		{"ssh://host/~/a", "", workspace.Source{URL: "ssh://host/~/a"}},
		{"git@github.com:a/b.git", strings.Repeat("a1", 20), workspace.Source{URL: "git@github.com:a/b.git", Ref: strings.Repeat("a1", 20)}},
		{"/srv/it's here", "", workspace.Source{Path: "/srv/it's here"}},
		{"/a:b/../c@d", "", workspace.Source{Path: "/c@d"}},
		{"./-dir", "", workspace.Source{Path: "-dir"}},
		{"../x", "", workspace.Source{Path: "../x"}},
		{".", "", workspace.Source{Path: "."}},
	} {
		got, err := workspace.ParseSource(tc.repo, tc.ref)
		if err != nil {
			t.Errorf("ParseSource(%q, %q): %v", tc.repo, tc.ref, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got, cmpopts.IgnoreUnexported(workspace.Source{})); diff != "" {
			t.Errorf("ParseSource(%q, %q) (-want +got):\n%s", tc.repo, tc.ref, diff)
		}
		if got.IsGit() != (tc.want.URL != "") || !strings.Contains(got.String(), tc.want.Path+tc.want.URL) {
			t.Errorf("ParseSource(%q, %q) is %v", tc.repo, tc.ref, got)
		}
	}
}

func TestParseSourceRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ repo, ref, say string }{
		{"", "", "empty"},
		{"-u=evil", "", "hyphen"},
		{"--upload-pack=x", "", "hyphen"},
		{"dir", "", "./dir"},
		{"~/dir", "", "tilde"},
		{"file:///etc", "", "file://"},
		{"ext::sh -c id", "", "remote helper"},
		{"fd::17", "", "remote helper"},
		{"user@ext::sh -c id", "", "begins with"},
		{"ftp://host/a", "", "scheme"},
		{"HTTPS://host/a", "", "small letters"},
		{"https://host", "", "no repository"},
		{"https://host/", "", "no repository"},
		{"https:///path", "", "no host"},
		{"https://token@host/a", "", "git_credential"},
		{"https://u:s3cr3t@host/a", "", "git_credential"},
		{"ssh://u:s3cr3t@host/a", "", "git_credential"},
		{"https://host/a?private_token=s3cr3t", "", "git_credential"},
		{"https://host/a#main", "", "input ref"},
		{"git@host:a#main", "", "input ref"},
		{"https://-oProxyCommand=id/a", "", "no name"},
		{"ssh://-oProxyCommand=id/a", "", "no name"},
		{"ssh://-x@host/a", "", "user"},
		{"git@-oProxyCommand=id:a", "", "no name"},
		{"-x@host:a", "", "hyphen"},
		{"git@host:-a", "", "begins with"},
		{"host:a", "", "user@host:path"},
		{"a/b@host:c", "", "user@host:path"},
		{"git@host:", "", "no repository"},
		{"https://ho st/a", "", "read"},
		{"https://host\\evil/a", "", "read"},
		{"https://host/a\nb", "", "control"},
		{"https://host/a%0ab", "", "control"},
		{"https://host/a%00", "", "control"},
		{"/a\x00b", "", "control"},
		{"https://höst/a", "", "no name"},
		{"https://host:99x/a", "", "read"},
		{"/" + strings.Repeat("a", 4000), "", "bytes"},
		{"/dir", "main", "copied as it is"},
		{"https://host/a", "-x", "hyphen"},
		{"https://host/a", "--upload-pack=id", "hyphen"},
		{"https://host/a", "a..b", ".."},
		{"https://host/a", "a b", "space"},
		{"https://host/a", "a:b", "contains"},
		{"https://host/a", "a^{}", "contains"},
		{"https://host/a", "a@{1}", "@{"},
		{"https://host/a", "@", "@"},
		{"https://host/a", "a.lock", ".lock"},
		{"https://host/a", "/a", "part"},
		{"https://host/a", "a//b", "part"},
		{"https://host/a", "a/.b", "part"},
		{"https://host/a", "a.", "dot"},
		{"https://host/a", "a\nb", "control"},
		{"https://host/a", strings.Repeat("a", 300), "bytes"},
	} {
		got, err := workspace.ParseSource(tc.repo, tc.ref)
		if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !sandboxer.IsRefused(err) {
			t.Errorf("ParseSource(%q, %q) = %v, %v; want InvalidArgument, refused", tc.repo, tc.ref, got, err)
			continue
		}
		if !strings.Contains(err.Error(), tc.say) {
			t.Errorf("ParseSource(%q, %q): %v; want it to say %q", tc.repo, tc.ref, err, tc.say)
		}
		if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("ParseSource(%q) shows the secret: %v", tc.repo, err)
		}
	}
}

func FuzzParseSource(f *testing.F) {
	for _, s := range []string{"https://host/a", "git@host:a", "/a", "./a", "ext::x", "ssh://u@h:1/a", "https://u:p@h/a", "-x", "https://h/%0a", "a@b:c:d", "ssh://[::1%25eth0]/a"} {
		f.Add(s, "main")
	}
	f.Fuzz(func(t *testing.T, repo, ref string) {
		s, err := workspace.ParseSource(repo, ref)
		if err != nil {
			if sandboxer.CodeOf(err) != sandboxer.InvalidArgument || !sandboxer.IsRefused(err) {
				t.Errorf("error is %v, want InvalidArgument, refused", err)
			}
			return
		}
		for _, v := range []string{s.URL, s.Ref} {
			if strings.HasPrefix(v, "-") || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("%q was taken", v)
			}
		}
		if (s.URL == "") == (s.Path == "") || (s.Path != "" && s.Ref != "") {
			t.Errorf("both or neither: %+v", s)
		}
		if s.Path == "" && s.URL != repo {
			t.Errorf("the URL is %q", s.URL)
		}
		if u, err := url.Parse(s.URL); err == nil && s.URL != "" && strings.Contains(s.URL, "://") {
			if _, has := u.User.Password(); has || (u.User != nil && u.Scheme != "ssh") || u.RawQuery != "" {
				t.Errorf("%q was taken", s.URL)
			}
		}
	})
}
