package boltstore

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer/manager/store"
)

// What was encoded is decoded to the same, and no single byte of it can change without being noticed.
func FuzzRecord(f *testing.F) {
	f.Add("sandbox", "sbx-1", int64(7), int64(-3), "live", "host=1", []byte("body"), uint16(3), byte(1))
	f.Add("k", "\xff", int64(1)<<62, int64(0), "", "", []byte{}, uint16(0), byte(0x80))
	f.Fuzz(func(t *testing.T, kind, id string, rev, n int64, tag1, tag2 string, body []byte, at uint16, flip byte) {
		want := store.Record{Key: store.Key{Kind: kind, ID: id}, Rev: rev & (1<<63 - 1), N: n, Body: body}
		for _, tag := range []string{tag1, tag2} {
			if tag != "" {
				want.Tags = append(want.Tags, tag)
			}
		}
		if want.Key.Validate() != nil {
			return
		}
		key := recordKey(nil, want.Key)
		if k, err := parseRecordKey(key); err != nil || k != want.Key {
			t.Fatalf("the key %q became %v, %v", want.Key, k, err)
		}
		value := encodeRecord(nil, key, &want)
		got, err := decodeRecord(want.Key, key, value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		if flip != 0 {
			value[int(at)%len(value)] ^= flip
			if _, err := decodeRecord(want.Key, key, value); err == nil {
				t.Fatalf("byte %d was changed by %#x, and nobody noticed", int(at)%len(value), flip)
			}
		}
	})
}

// No bytes at all make a decoder panic.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("sandbox\x00id"), []byte("\x00\x00\x00\x00\x01\x02\x03"))
	f.Add(recordKey(nil, store.Key{Kind: "k", ID: "i"}), state{rev: 1}.encode())
	f.Fuzz(func(_ *testing.T, key, value []byte) {
		if k, err := parseRecordKey(key); err == nil {
			if len(value) >= sumLen { // with a right checksum the rest is looked at too
				native.PutUint32(value, 0)
				sum := recordSum(key, value)
				value[0], value[1], value[2], value[3] = byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum)
			}
			_, _ = decodeRecord(k, key, value)
		}
		_, _ = decodeState(value)
		_, _ = decodeAbout(value)
		_, _ = decodeState(appendSum(bytes.Clone(value)))
		_, _ = decodeAbout(appendSum(bytes.Clone(value)))
	})
}

// A file with any bytes changed is opened or refused. It hangs or crashes nothing.
func FuzzOpen(f *testing.F) {
	golden, err := os.ReadFile("testdata/format-1.db")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("\x02"), uint32(4096*2+8), uint32(0))
	f.Add([]byte("\xff\xff"), uint32(4096*3+10), uint32(0))
	f.Add([]byte{}, uint32(0), uint32(9000))
	f.Add(golden[:80], uint32(4096), uint32(0))
	f.Fuzz(func(t *testing.T, patch []byte, at, cut uint32) {
		file := bytes.Clone(golden)
		copy(file[int(at)%len(file):], patch)
		if cut != 0 {
			file = file[:int(cut)%len(file)]
		}
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := OpenIn(t.Context(), path, 1, slog.New(slog.DiscardHandler))
		if err != nil {
			return
		}
		for _, err := range s.Scan(t.Context(), store.Query{Kind: "sandbox", Tag: "live"}) {
			if err != nil {
				t.Errorf("opened, and could not be read: %v", err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
