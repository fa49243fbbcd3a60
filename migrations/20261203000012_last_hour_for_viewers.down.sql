REVOKE SELECT (source, state) ON postcall.resolution FROM postcall_console_viewer;
