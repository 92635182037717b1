"""The edge of the program: arguments, folders and pipes become batches; batches become files, folders and pipes."""
