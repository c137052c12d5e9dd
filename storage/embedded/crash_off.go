//go:build !crashpoints

package embedded

// crashPoint does nothing. The build for fault tests can end the process here.
func crashPoint(string) {}
