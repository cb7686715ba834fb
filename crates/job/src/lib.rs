//! Job orders executed: the local executor and the job process itself.
