package custody_test

import (
	"testing"

	"github.com/bodyworn/ingestd/storage/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }
