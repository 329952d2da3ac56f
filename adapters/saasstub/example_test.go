package saasstub_test

import (
	"context"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/adapters/saasstub"
)

// A quote for an hour, by a clock and a service of the test's own.
func ExampleNew() {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	adapter := saasstub.New(saasstub.Options{Service: saasstub.NewService(), Now: func() time.Time { return now }})
	ctx := context.Background()
	ext, err := adapter.New(ctx, sandboxer.Settings{ExtensionID: "ext.saasstub"})
	if err != nil {
		fmt.Println(err)
		return
	}
	meter, _ := sandboxer.As[sandboxer.Meterer](ext)
	small := sandboxer.Profile{Resources: sandboxer.Resources{CPUMillis: 2000, MemoryBytes: 4 << 30}}
	quote, err := meter.EstimateCost(ctx, small, time.Hour)
	fmt.Println(quote.Total, quote.PriceList, err)
	for _, line := range quote.Lines {
		fmt.Println(line.Item, line.Micros/1_000_000, line.Unit, line.Amount)
	}
	// Output:
	// 0.1656 USD saasstub 2026-11-01 <nil>
	// cpu 7200 vcpu-second 0.1008 USD
	// memory 14400 gib-second 0.0648 USD
}
