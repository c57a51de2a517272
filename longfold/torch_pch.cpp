// The owner of the precompiled torch header: see CMakeLists.txt.
