package boltstore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/sand-boxer/sandboxer/manager/boltstore"
	"github.com/sand-boxer/sandboxer/manager/store"
)

func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	// A host application hands it to manager.Config as Store; this is what the Manager does with it.
	st, err := boltstore.Open(ctx, filepath.Join(dir, "sandboxes.db"))
	if err != nil {
		log.Print(err)
		return
	}
	defer func() { _ = st.Close() }()

	rev, err := st.Commit(ctx,
		store.Mutation{Do: store.Put, Key: store.Key{Kind: "sandbox", ID: "sbx-1"}, Tags: []string{"live"}, Body: []byte("{}")},
		store.Mutation{Do: store.Add, Key: store.Key{Kind: "counter", ID: "host-1"}, Delta: 1, Max: 10},
	)
	if err != nil {
		log.Print(err)
		return
	}
	for r, err := range st.Scan(ctx, store.Query{Kind: "sandbox", Tag: "live"}) {
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Println(r.Key, r.Rev == rev, string(r.Body))
	}
	// Output: sandbox/sbx-1 true {}
}
