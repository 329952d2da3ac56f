package composessh_test

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil { // the tests wait for hosts more than they work
		panic(err)
	}
	goleak.VerifyTestMain(m)
}
