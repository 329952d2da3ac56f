package boltstore

// format is the version of the file's layout that this code writes.
const format = 1
